package controlplane_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/engine/store"
)

// TestOpenAPI compares docs/openapi.json with the code: go test ./engine/controlplane -run OpenAPI -update
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	s := newSite(t, store.Options{}, nil)
	w, body := s.request(t, "GET", "/openapi.json", "")
	if w.StatusCode != 200 {
		t.Fatal(w.Status)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(body), "", "  "); err != nil {
		t.Fatal(err)
	}
	got := append(bytes.TrimSpace(indented.Bytes()), '\n')
	file := filepath.Join("..", "..", "docs", "openapi.json")
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, got, 0o644); err != nil { //nolint:gosec // a file of the repository
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/openapi.json is not what the code says: run go test ./engine/controlplane -run OpenAPI -update")
	}
	var d struct {
		OpenAPI string
		Paths   map[string]any
	}
	if err := json.Unmarshal(got, &d); err != nil || d.OpenAPI != "3.1.0" {
		t.Errorf("version %s (%v)", d.OpenAPI, err)
	}
	for _, path := range []string{"/v1/desired", "/v1/releases/{digest}", "/v1/reports", "/v1/hooks/push", "/v1/plan",
		"/v1/status", "/v1/why/{name}", "/v1/events", "/livez", "/readyz", "/metrics"} {
		if d.Paths[path] == nil {
			t.Errorf("%s is not described", path)
		}
	}
	if w, body := s.request(t, "GET", "/openapi.yaml", ""); w.StatusCode != 200 ||
		!strings.HasPrefix(body, "components:") {
		t.Errorf("openapi.yaml: %s %.40s", w.Status, body)
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write docs/openapi.json anew")
	flag.Parse()
	os.Exit(m.Run())
}
