package runcmd

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/store"
)

// R29: replicas with different settings are detected, and one whose key cells would not trust does not start.
func TestReplicasAgree(t *testing.T) {
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "sluice.db"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, c := range []struct {
		mine repos.Advertised
		says string // in the log, or as the error
	}{
		{repos.Advertised{Address: "a.example:1", Pins: []string{"A", "B"}}, ""},
		{repos.Advertised{Address: "a.example:1", Pins: []string{"A", "B"}}, ""},
		{repos.Advertised{Address: "b.example:1", Pins: []string{"A", "B"}}, "the same --cells-address"},
		{repos.Advertised{Address: "b.example:1", Pins: []string{"A", "C"}}, "the standby key has changed"},
		{repos.Advertised{Address: "b.example:1", Pins: []string{"C", "D"}}, ""}, // the standby took over
		{repos.Advertised{Address: "b.example:1", Pins: []string{"A", "B"}}, "would not trust it"},
	} {
		var said bytes.Buffer
		if err := advertise(t.Context(), st, c.mine, "tls", zerolog.New(&said)); err != nil {
			said.WriteString(err.Error())
		}
		if got := said.String(); (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%v: %q, want %q", c.mine, got, c.says)
		}
	}
}
