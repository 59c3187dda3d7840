package plane

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
)

// A bundle that comes with the desired state is unpacked, as far as it is small; what is damaged or large is left out,
// so that the cell fetches the bundle.
func TestBundleInDesiredState(t *testing.T) {
	t.Parallel()
	packer, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw := []byte(`{"version":1}`)
	for what, c := range map[string]struct{ sent, want []byte }{
		"none":    {nil, nil},
		"small":   {packer.EncodeAll(raw, nil), raw},
		"largest": {packer.EncodeAll(make([]byte, cells.MaxBundleContent), nil), make([]byte, cells.MaxBundleContent)},
		"large":   {packer.EncodeAll(make([]byte, cells.MaxBundleContent+1), nil), nil},
		"damaged": {packer.EncodeAll(raw, nil)[:9], nil},
		"plain":   {raw, nil},
	} {
		content, err := json.Marshal(c.sent)
		if err != nil {
			t.Fatal(err)
		}
		d, err := (&Client{cell: "acme"}).decodeDesired([]byte(`{"cell":"acme","flags":{"bundle":{"content":` +
			string(content) + `}}}`))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(d.Flags.Bundle.Content, c.want) {
			t.Errorf("%s: %d bytes, want %d", what, len(d.Flags.Bundle.Content), len(c.want))
		}
	}
}
