package view_test

import (
	"encoding/json"
	"strings"
	"testing"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/announce"
	"github.com/sluice-cd/sluice/flags/repository"
)

// R42, R43: a killed flag that is not off says why, and the step after which it is: for the newest definition a change
// of it; for a channel with an older one, that the channel gets the newest.
func TestKilledFlagThatIsNotOff(t *testing.T) {
	const always = `{"state": "ENABLED", "variants": {"on": true, "no": false}, "defaultVariant": "on",
		"metadata": {"feature": "editor"}}`
	mended := strings.Replace(always, `"editor"`, `"editor", "off": "no"`, 1)
	define := func(text string) *flags.Definition {
		d, err := flags.ParseDefinition("new-editor", json.RawMessage(text))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	const older = "dedicated has an older definition"
	armed := map[string]map[string]repository.Record{"new": {"dedicated": {Outcome: repository.Armed}}}
	for name, c := range map[string]struct {
		tip, dedicated string
		records        map[string]map[string]repository.Record
		gives, next    string
	}{
		"the newest":          {always, always, nil, "it has no off variant", "name its off variant"},
		"off everywhere":      {mended, mended, nil, "", ""},
		"an older one":        {mended, always, nil, older, "sluice flag promote dedicated"},
		"one that is decided": {mended, always, armed, older, "sluice announce approve new"},
	} {
		w := TwoChannels(t)
		cell := func(text string) *announce.CellFlags {
			return &announce.CellFlags{Bundle: &flags.Bundle{Flags: map[string]json.RawMessage{
				"new-editor": json.RawMessage(text)}}}
		}
		v := &view.View{Desired: w.Desired(), Observed: &w.Obs, Flags: &view.Flags{
			Plan: announce.Plan{CellFlags: map[string]*announce.CellFlags{"s1": cell(c.tip),
				"acme": cell(c.dedicated)}},
			Tip: &repository.Tree{Flags: map[string]*flags.Definition{"new-editor": define(c.tip)}, Records: c.records,
				Announcements: map[string]*repository.Announcement{"new": {Features: []string{"editor"}}},
				Overrides:     []repository.Override{{Kind: repository.Kill, Flag: "new-editor", Reason: "x"}}},
		}}
		for _, k := range view.NewFlagIndex(v).Kills("new-editor") {
			if !strings.HasPrefix(k.NotOff, c.gives) || (c.gives == "") != (k.NotOff == "") ||
				!strings.Contains(k.Next, c.next) || (c.next == "") != (k.Next == "") {
				t.Errorf("%s: %+v", name, k)
			}
		}
	}
}
