package maintenance

import (
	"fmt"
	"testing"
	"time"
)

// Time, drains put off, what overran and what was refused add up; a dead agent's maintenance counts until its end.
func TestTotals(t *testing.T) {
	now := time.Date(2026, 11, 29, 13, 0, 0, 0, time.UTC)
	r := &Record{Phase: Draining, Begins: now, Until: now.Add(10 * time.Minute)}
	ops := Busy{Refused: map[string]int64{"start": 2, "stop": 1}}
	var all Totals
	for _, kind := range []string{EventAnnounced, EventEntered, EventProlonged, EventPutOff, EventEntered, EventLeft,
		EventEntered, EventOverran} {
		before := all
		all = all.After(r, Event{Kind: kind}, ops, now.Add(time.Hour))
		if len(before.Refused) > 0 && &before.Refused == &all.Refused {
			t.Error("totals are immutable")
		}
	}
	if all.Begun != 3 || all.PutOff != 1 || all.Overran != 1 || all.Seconds != 2*3600+600 ||
		all.Refused["start"] != 6 || all.Refused["stop"] != 3 || !all.Valid() {
		t.Errorf("%+v", all)
	}
	if all.Last != nil {
		t.Errorf("no update was through: %+v", all.Last)
	}
	through := &Record{Phase: Drained, Release: "1.1.0", Begins: now}
	all = all.After(through, Event{Kind: EventLeft}, Busy{}, now.Add(42*time.Second))
	if all.Last == nil || *all.Last != (Lasted{"1.1.0", 42}) || !all.Valid() {
		t.Errorf("%+v", all.Last)
	}
	for i := range 100 {
		all = all.After(r, Event{Kind: EventLeft}, Busy{Refused: map[string]int64{fmt.Sprint("k", i): 1}}, now)
	}
	if len(all.Refused) != MaxRefusedKinds+1 || all.Refused[OtherKinds] == 0 || !all.Valid() {
		t.Errorf("%+v", all)
	}
	for _, bad := range []Totals{{Seconds: -1}, {Refused: map[string]int64{"start": -1}},
		{Refused: map[string]int64{"a b": 1}}, {Last: &Lasted{Seconds: 1}}, {Last: &Lasted{"1.0.0", -1}}} {
		if bad.Valid() {
			t.Errorf("%+v is taken", bad)
		}
	}
}
