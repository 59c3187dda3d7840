package render

import (
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/child"
)

// TestMain lets the test binary act as the render child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "render":
			os.Exit(Main(os.Stdin, os.Stdout, os.Stderr))
		case "build":
			os.Exit(buildUnscanned())
		}
	}
	os.Exit(child.Run(m, (*testing.M).Run))
}

// buildUnscanned is the render child without its scan.
func buildUnscanned() int {
	disableNetwork()
	kustomization, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 2
	}
	if _, err := buildManifests(releases.Files{"kustomization.yaml": {Data: kustomization}}, "."); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
