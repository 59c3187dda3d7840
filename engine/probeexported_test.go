package engine_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/releases"
)

// R11: a metric that cells export is asked of what is kept of them, and what can't be read in time does not hold.
func TestR11ProbeExported(t *testing.T) {
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "store"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	keeper := exports.New(st.Records(), nil)
	now := time.Now().UTC().Truncate(time.Second)
	take(t, keeper, "acme", now.Add(-time.Minute), `{"at":%q,"metric":"errors","type":"gauge","value":0.004}`)
	below := 0.01
	observe := func(e engine.Exports, change func(*channels.Metric), of ...string) plan.Observation {
		m := channels.Metric{Exported: "errors", Over: channels.OverEach, Within: 30 * time.Minute, Below: &below,
			ValidFor: time.Minute, Timeout: time.Minute}
		change(&m)
		p := plan.Probe{Channel: "dedicated", Gate: "g", Subject: "sha256:a", Policy: "p", Metric: &m}
		for _, name := range of {
			p.Cells = append(p.Cells, plan.ProbedCell{Name: name, Since: now.Add(-time.Hour)})
		}
		o := engine.NewHTTPProber(reach.List{}, e).Observe(t.Context(), p, now) // gates may ask nowhere outside
		if o.Channel != p.Channel || o.Gate != p.Gate || o.Subject != "sha256:a" || o.Policy != "p" {
			t.Errorf("the answer is to something else: %+v", o)
		}
		return o
	}
	as := func(*channels.Metric) {}
	if o := observe(keeper, as, "acme"); !o.Holds || o.Value != "errors within the bounds in 1 of 1 cell" ||
		!o.ValidUntil.Equal(now.Add(time.Minute)) {
		t.Errorf("good: %+v", o)
	}
	if o := observe(keeper, as, "acme", "beta"); o.Holds || !strings.Contains(o.Reason, "beta (none)") ||
		!o.ValidUntil.Equal(now.Add(15*time.Second)) {
		t.Errorf("a cell exported nothing: %+v", o)
	}
	if o := observe(keeper, func(m *channels.Metric) { *m.Below = 0.001 }, "acme"); o.Holds ||
		!strings.Contains(o.Reason, "acme: 0.004 is not below 0.001") {
		t.Errorf("out of bounds: %+v", o)
	}
	if o := observe(keeper, func(m *channels.Metric) { m.Timeout = time.Nanosecond }, "acme"); o.Holds ||
		o.Reason != "what cells exported could not be read within 1ns" {
		t.Errorf("a slow store: %+v", o)
	}
}

// take makes a keeper take a line of a cell, with its time in the place of %q.
func take(t *testing.T, k *exports.Keeper, cell string, at time.Time, line string) {
	t.Helper()
	content := fmt.Sprintf(line, at.Format(time.RFC3339)) + "\n"
	header, err := json.Marshal(cells.ExportHeader{Cell: cell, Sequence: 1, At: at,
		Content: string(releases.DigestBytes([]byte(content)))})
	if err != nil {
		t.Fatal(err)
	}
	packer, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packer.Close() }()
	b, err := exports.Parse(packer.EncodeAll([]byte(string(header)+"\n"+content), nil))
	if err == nil {
		_, err = k.Take(t.Context(), b, 1, at)
	}
	if err != nil {
		t.Fatal(err)
	}
}
