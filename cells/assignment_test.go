package cells_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

func assignment() cells.Assignment {
	return cells.Assignment{
		Channel: "dedicated", Epoch: 1, Sequence: 42, Release: "2026.11.3", Digest: releases.DigestBytes([]byte("x")),
		Profile: "small", Values: map[string]any{"b": 2, "a": "x", "c": map[string]any{"d": []any{1.5, true}}},
	}
}

// Keys are stored on cells' disks, so a key must never change, nor differ after a round trip through JSON.
func TestKey(t *testing.T) {
	a := assignment()
	if got, want := a.Key(), "e8bd3ce1968b7de8aaf22ab800c8ebf9"; got != want {
		t.Errorf("key %s, want %s", got, want)
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var back cells.Assignment
	if err := json.Unmarshal(b, &back); err != nil || !back.Equal(a) || back.Key() != a.Key() {
		t.Errorf("%+v is not %+v (%v)", back, a, err)
	}
	same := a
	same.ForwardOnly, same.Revision = true, "r"
	if !same.Equal(a) {
		t.Error("what follows from the rest made a difference")
	}
	a.Profile, a.Values = "", nil
	same.Profile, same.Values = "default", map[string]any{}
	if !same.Equal(a) {
		t.Error("the default profile and no values can be said in two ways that are one")
	}
}

// R13: an assignment is one value, and a change of any part makes another one.
func TestKeyCoversEveryPart(t *testing.T) {
	for name, change := range map[string]func(*cells.Assignment){
		"epoch":    func(a *cells.Assignment) { a.Epoch++ },
		"sequence": func(a *cells.Assignment) { a.Sequence++ },
		"release":  func(a *cells.Assignment) { a.Release = "2026.11.4" },
		"digest":   func(a *cells.Assignment) { a.Digest = releases.DigestBytes(nil) },
		"channel":  func(a *cells.Assignment) { a.Channel = "staging" },
		"profile":  func(a *cells.Assignment) { a.Profile = "large" },
		"values":   func(a *cells.Assignment) { a.Values = map[string]any{"a": "x"} },
	} {
		a, b := assignment(), assignment()
		change(&b)
		if a.Key() == b.Key() || a.Equal(b) {
			t.Errorf("a change of %s makes no difference", name)
		}
		release := name == "release" || name == "digest"
		content := release || name == "profile" || name == "values"
		if a.SameRelease(b) == release || a.SameContent(b) == content || cells.Conflicts(a, b) != (name == "digest") {
			t.Errorf("%s: SameRelease %v, SameContent %v, Conflict %v", name, a.SameRelease(b), a.SameContent(b),
				cells.Conflicts(a, b))
		}
	}
}

// Identical covers every field, whichever there will be, and what is identical has one key. Assignments are encoded as
// encoding/json encodes them.
func TestIdentical(t *testing.T) {
	t.Parallel()
	full := assignment()
	full.Revision, full.ForwardOnly, full.Retry = "r", true, "2026-11-03T04:05:06Z"
	full.Values["n"], full.Values["none"] = json.Number("15"), map[string]any{}
	same := full
	same.Values = maps.Clone(full.Values)
	same.Values["c"] = map[string]any{"d": []any{1.5, true}}
	if !full.Identical(&same) || full.Key() != same.Key() || full.Identical(nil) {
		t.Errorf("%+v and %+v", full, same)
	}
	for i, field := range reflect.VisibleFields(reflect.TypeFor[cells.Assignment]()) {
		other := full
		reflect.ValueOf(&other).Elem().Field(i).SetZero()
		if full.Identical(&other) || other.Identical(&full) {
			t.Errorf("%s makes no difference", field.Name)
		}
		want, err := json.Marshal(other)
		if err != nil {
			t.Fatal(err)
		}
		values, err := other.MarshalValues()
		if err != nil {
			t.Fatal(err)
		}
		for _, known := range [][]byte{nil, values} {
			if got, err := other.AppendJSON([]byte("x"), known); err != nil || string(got) != "x"+string(want) {
				t.Errorf("got  %s (%v)\nwant %s", got, err, want)
			}
		}
	}
	for name, v := range map[string]any{"a": 1, "b": "2", "c": map[string]any{}, "n": json.Number("16")} {
		other := full
		other.Values = maps.Clone(full.Values)
		if other.Values[name] = v; full.Identical(&other) || other.Identical(&full) {
			t.Errorf("%s: %v makes no difference", name, v)
		}
	}
}

// R2: cells order assignments by epoch, then by sequence.
func TestNewer(t *testing.T) {
	at := func(epoch, sequence int64) cells.Assignment {
		return cells.Assignment{Epoch: epoch, Sequence: sequence}
	}
	rapid.Check(t, func(t *rapid.T) {
		small := rapid.Int64Range(0, 3)
		a, b := at(small.Draw(t, "e"), small.Draw(t, "s")), at(small.Draw(t, "f"), small.Draw(t, "r"))
		want := a.Epoch > b.Epoch || a.Epoch == b.Epoch && a.Sequence > b.Sequence
		if cells.Newer(a, b) != want {
			t.Fatalf("%+v newer than %+v: %v", a, b, !want)
		}
	})
	if !cells.Newer(at(2, 42), at(1, 120)) {
		t.Error("a cell moved from a channel at 120 to one at 42 refuses it (fault 58)")
	}
}
