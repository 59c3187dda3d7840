package manifest_test

import (
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/manifest"
)

const cellYAML = `apiVersion: sluice/v1
kind: Cell
channel: dedicated
profile: small
values: {domain: acme.example, replicas: 3}
labels: {region: eu, tier: gold}
`

func BenchmarkDecode(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, faults := manifest.Decode[cells.Cell]("cells/acme/cell.yaml", []byte(cellYAML)); len(faults) > 0 {
			b.Fatal(faults)
		}
	}
}
