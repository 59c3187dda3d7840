package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
)

func TestChildrenObey(t *testing.T) {
	t.Parallel()
	d := commands{
		"add":  commandOf(func(all []int) (any, error) { return all[0] + all[1], nil }),
		"fail": commandOf(func(struct{}) (any, error) { return nil, errors.New("no") }),
	}
	var out bytes.Buffer
	in := `{"do":"add","with":[1,2]}` + "\n" + `{"do":"fail","with":{}}` + "\n" + `{"do":"sing","with":{}}` + "\n"
	if err := serveCommands(strings.NewReader(in), &out, d); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), `{"gives":3}`+"\n"+`{"error":"no"}`+"\n"+`{"error":"unknown command"}`+
		"\n"; got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// The stub shows cells what a control plane would: the head, their assignment, and a hold.
func TestSiteShowsHeads(t *testing.T) {
	t.Parallel()
	s := &planeStub{names: []string{"cell-00000"}, changed: make(chan struct{})}
	before := s.Changed()
	s.setHead(2)
	<-before
	d, etag, ok := s.View().Cell("cell-00000")
	if !ok || d.Hold == nil || d.Assignment == nil || d.Assignment.Sequence != 1 ||
		headRelease(mustJSON(t, d)) != "1.2.0" {
		t.Errorf("%+v", d)
	}
	s.setHead(3)
	if _, next, _ := s.View().Cell("cell-00000"); next == etag {
		t.Error("another head has the same ETag")
	}
}

// The planner is measured on input that needs decisions.
func TestPlannedIsARollout(t *testing.T) {
	t.Parallel()
	d, o := rolloutInput(100)
	p := plan.Make(d, o, time.Now())
	granted := 0
	for _, a := range p.Actions {
		if a.Kind == plan.Grant {
			granted += len(a.Cells)
		}
	}
	if granted != 10 || len(p.Blocked) == 0 {
		t.Errorf("granted to %d, not to the first wave of 10: %+v %+v", granted, p.Actions, p.Blocked[:1])
	}
}

func mustJSON(t *testing.T, d cells.Desired) []byte {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
