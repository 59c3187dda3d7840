package cellapi

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/releases"
)

// appendDesired writes what json.Marshal writes.
func TestAppendDesired(t *testing.T) {
	t.Parallel()
	at, e := &snapshot{shared: newSharedParts()}, &cellEntry{}
	head := cells.Sealed{Payload: []byte(`{"channel":"staging"}`), Digest: "sha256:00", Metadata: []any{}}
	given := &cells.Assignment{Channel: "staging", Sequence: 3, Release: "1.0.1",
		Values: map[string]any{"b": 1, "a": "<x>"}}
	lit := &cells.Flags{
		// The digest equals the head's, to detect that the two are confused.
		Height: 7, Bundle: cells.FlagBundle{Digest: "sha256:00", Size: 3, Metadata: []any{}},
		Orders: cells.Sealed{Payload: []byte(`{}`), Digest: "sha256:00", Metadata: []any{}},
	}
	for _, d := range []cells.Desired{
		{},
		{Cell: "acme"},
		{Cell: `od"d<name`, Head: head},
		{Cell: "acme", Head: head, Assignment: given},
		{Cell: "acme", Head: head, Hold: &cells.Hold{Gate: "soak", Reason: "r", Until: time.Unix(0, 0).UTC()}},
		{Cell: "acme", Head: head, Assignment: given, Hold: &cells.Hold{Gate: "wave", Reason: "r"}},
		// not the cached one
		{Cell: "acme", Head: head, Assignment: &cells.Assignment{Channel: "staging", Sequence: 4}},
		{Cell: "acme", Head: head, Assignment: given, Notices: []cells.Notice{{Code: "c"}, {Code: "d", Text: "t"}}},
		{Cell: "acme", Debug: "3<"},
		{Cell: "acme", Head: head, Debug: "4", Flags: lit},
		{Cell: "acme", Flags: &cells.Flags{}},
		{Cell: "acme", Head: head, Flags: lit},
		{Cell: "bolt", Head: head,
			Flags: &cells.Flags{Height: 8, Bundle: lit.Bundle, Orders: lit.Orders,
				Labels: map[string]string{"region": "eu", "a<b": `"`}}},
		{Cell: "acme", Head: head, Assignment: given, Hold: &cells.Hold{Gate: "wave"},
			Notices: []cells.Notice{{Code: "c"}}, Flags: lit},
		{Cell: "acme", Hold: &cells.Hold{}},
		{Cell: "acme", Maintenance: &cells.Maintenance{}},
		{Cell: "acme", Hold: &cells.Hold{}, Maintenance: &cells.Maintenance{}},
		{Cell: "bolt", Head: head, Hold: &cells.Hold{Gate: "wave", Reason: "r"}}, // the shared one
		{Cell: "bolt", Head: head, Hold: &cells.Hold{Gate: "wave", Reason: "r"}, Debug: "5"},
		{Cell: "bolt", Maintenance: &cells.Maintenance{Policy: maintenance.Policy{Lead: time.Minute}}},
		{Cell: "acme", Head: head, Flags: lit, Maintenance: &cells.Maintenance{
			Policy: maintenance.Policy{Lead: time.Minute}, Texts: releases.Texts{"de": {"start": "<gleich>"}}}},
	} {
		want, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := at.appendDesired(nil, e, &d); err != nil || string(got) != string(want)+"\n" {
			t.Errorf("got  %s (%v)\nwant %s", got, err, want)
		}
	}
	if n := reflect.TypeFor[cells.Desired]().NumField(); n != 4+reflect.TypeFor[restOfDesired]().NumField() {
		t.Errorf("cells.Desired has %d fields: appendDesired leaves the new one out: add it to restOfDesired", n)
	}
}
