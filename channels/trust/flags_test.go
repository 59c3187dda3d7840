package trust_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/channels/trust/trusttest"
	"github.com/sluice-cd/sluice/releases"
)

// flagWorld is a signed repository, and a cell that follows it.
type flagWorld struct {
	t     *testing.T
	files fstest.MapFS
	now   time.Time
	last  *trust.Served
	known trust.Verifier
	state trust.State
}

func newFlagWorld(t *testing.T) *flagWorld {
	w := &flagWorld{t: t, files: fstest.MapFS{}, now: noonOfFlags()}
	v, err := releases.ParseVersion("1.0.0")
	w.must(err)
	w.change([]string{"ada", "grace"}, func(d *trust.Draft) error {
		err := d.Found(trust.Foundation{Signers: []trust.Key{trusttest.Public("ada"), trusttest.Public("grace")},
			Threshold: 2, Online: []trust.Key{trusttest.Public("engine")}, Channels: []string{"dedicated"}})
		if err != nil {
			return err
		}
		_, err = d.List(trust.Release{Version: v, Digest: releases.DigestBytes(nil), Channels: []string{"dedicated"}})
		return err
	})
	w.state.Root = w.ledger().Root().Data
	return w
}

func noonOfFlags() time.Time { return time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC) }

func (w *flagWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *flagWorld) ledger() *trust.Ledger { return trust.Read(nil, w.files) }

// change makes a change, which some people sign.
func (w *flagWorld) change(by []string, make func(d *trust.Draft) error) {
	w.t.Helper()
	d, err := trust.NewDraft(w.ledger(), w.now)
	w.must(err)
	w.must(make(d))
	for _, name := range by {
		_, err := d.Sign(trusttest.Signer(name))
		w.must(err)
	}
	files, err := d.Files()
	w.must(err)
	for name, data := range files {
		if data == nil {
			delete(w.files, name)
			continue
		}
		w.files[name] = &fstest.MapFile{Data: data, Mode: 0o644}
	}
}

// serve returns what the engine serves now.
func (w *flagWorld) serve() trust.Bundle {
	w.t.Helper()
	l := w.ledger()
	v, err := releases.ParseVersion("1.0.0")
	w.must(err)
	heads, err := trusttest.SignedHeads(l, w.now, v, "dedicated")
	w.must(err)
	served, err := l.SignServed(heads, w.last, w.now, trusttest.Signer("engine"))
	w.must(err)
	w.last = served
	return (&trust.Published{Ledger: l, Heads: heads, Served: served}).Bundle("dedicated", 0, "")
}

// verify is the cell's pull. An unchanged file is not read again, and what a new Verifier says is the same.
func (w *flagWorld) verify(b trust.Bundle) *trust.Trusted {
	w.t.Helper()
	again, _, err1 := trust.Verify(w.state, b, "dedicated", w.now)
	t, state, err2 := w.known.Verify(w.state, b, "dedicated", w.now)
	w.must(err1)
	w.must(err2)
	if fmt.Sprint(again.Parts, again.FlagsSigned, again.FlagsFault, again.Until) !=
		fmt.Sprint(t.Parts, t.FlagsSigned, t.FlagsFault, t.Until) {
		w.t.Fatalf("a Verifier that remembers says %v, and another one %v", t, again)
	}
	w.state = state
	return t
}

func part(name, content string) trust.Part {
	custom, _ := json.Marshal(map[string]string{"shut": content})
	return trust.Part{Name: name, SHA256: releases.DigestBytes([]byte(content)).Hex(), Length: 1, Custom: custom}
}

func (w *flagWorld) list(by []string, only bool, parts ...trust.Part) {
	w.t.Helper()
	w.change(by, func(d *trust.Draft) error {
		_, _, err := d.ListParts(parts, only)
		return err
	})
}

// Flags are unsigned until the policy says who signs them. From then on only what these people signed counts, whatever
// the engine serves, and releases go on whatever becomes of the list of flags.
func TestFlagsHaveSignersOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := newFlagWorld(t)
	if is := w.verify(w.serve()); is.FlagsSigned || len(is.Parts) > 0 {
		t.Fatalf("signed before anybody signs flags: %v", is)
	}
	refused := func(words string) {
		t.Helper()
		w.now = w.now.Add(time.Minute)
		is := w.verify(w.serve())
		if is.FlagsFault == nil || !strings.Contains(is.FlagsFault.Error(), words) || !is.FlagsSigned ||
			len(is.Parts) > 0 {
			t.Fatalf("%v, %v, want %q", is.Parts, is.FlagsFault, words)
		}
	}
	names := func(want ...string) {
		t.Helper()
		w.now = w.now.Add(time.Minute)
		is := w.verify(w.serve())
		var got []string
		for _, p := range is.Parts {
			got = append(got, p.Name+"="+string(p.Custom))
		}
		if is.FlagsFault != nil || !is.FlagsSigned || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("%v, %v, want %v", got, is.FlagsFault, want)
		}
	}
	w.change([]string{"ada", "grace"}, func(d *trust.Draft) error {
		return d.Rotate(trust.Rotation{FlagSigners: []trust.Key{trusttest.Public("mia"), trusttest.Public("linus")}})
	})
	refused("the flags file: is missing")
	w.list([]string{"ada", "grace"}, false, part("flags/a", "1")) // they sign releases, not flags
	refused("is missing")
	w.list([]string{"mia"}, false, part("flags/a", "1"))
	refused("is missing")
	w.list([]string{"linus"}, false, part("flags/a", "1"))
	one, two := `flags/a={"shut":"1"}`, `flags/a={"shut":"2"}`
	names(one)
	w.list([]string{"mia"}, false, part("flags/a", "2"))
	names(one) // until enough people signed
	w.list([]string{"linus"}, false, part("flags/a", "2"))
	before := w.serve()
	names(one, two) // a channel may still be at the first
	w.list([]string{"mia", "linus"}, true, part("flags/a", "2"))
	names(two)

	// An older list does not come back, not even with all online keys.
	evil := w.serve()
	evil.Roles["flags"] = before.Roles["flags"]
	if is := w.verify(evil); is.FlagsFault == nil || len(is.Parts) > 0 {
		t.Fatalf("an older list passes: %v", is.Parts)
	}
	names(two)

	// Nor does the engine's key sign flags.
	d, err := trust.NewDraft(w.ledger(), w.now)
	w.must(err)
	keys := []trust.Key{trusttest.Public("mia"), trusttest.Public("engine")}
	if err := d.Rotate(trust.Rotation{FlagSigners: keys}); err == nil {
		t.Error("the engine's key signs flags")
	}
	if err := d.Rotate(trust.Rotation{FlagThreshold: 1}); err == nil {
		t.Error("one person signs flags alone")
	}

	// Signing flags may end, and begin anew with a version that no cell takes for an older one.
	w.now = w.now.Add(time.Hour)
	w.change([]string{"ada"}, func(d *trust.Draft) error { return d.Rotate(trust.Rotation{UnsignedFlags: true}) })
	names(two) // until enough people signed that
	w.change([]string{"grace"}, func(*trust.Draft) error { return nil })
	if l := w.ledger(); l.Flags != nil || len(l.Faults) > 0 {
		t.Fatalf("%v, %v", l.Flags, l.Faults)
	}
	away := w.state // a cell that does not hear of it
	if is := w.verify(w.serve()); is.FlagsSigned || is.FlagsFault != nil {
		t.Fatalf("%v", is)
	}
	if !w.snapshotNamesFlags() {
		t.Error("the snapshot does not name the list any more: clients of TUF refuse it for ever")
	}
	w.change([]string{"ada", "grace"}, func(d *trust.Draft) error { return d.Rotate(trust.Rotation{}) })
	for name := range w.files {
		if strings.HasSuffix(name, ".flags.json") {
			t.Errorf("%s is left, which nobody signs", name)
		}
	}
	if w.serve(); !w.snapshotNamesFlags() {
		t.Error("once the file is gone, the snapshot does not name the list any more")
	}
	w.now = w.now.Add(time.Hour)
	w.change([]string{"ada", "grace"}, func(d *trust.Draft) error {
		return d.Rotate(trust.Rotation{FlagSigners: []trust.Key{trusttest.Public("mia"), trusttest.Public("linus")}})
	})
	w.list([]string{"mia", "linus"}, false, part("flags/a", "3"))
	names(`flags/a={"shut":"3"}`)
	w.state = away
	names(`flags/a={"shut":"3"}`)

	// The list expires for itself.
	w.now = w.now.Add(trust.Lifetime - time.Hour)
	w.change([]string{"ada", "grace"}, func(d *trust.Draft) error { return d.Rotate(trust.Rotation{}) })
	w.now = w.now.Add(2 * time.Hour)
	refused("the flags file: expired")
}

// snapshotNamesFlags reports whether the snapshot that was served last names the list of flags.
func (w *flagWorld) snapshotNamesFlags() bool {
	w.t.Helper()
	var is struct {
		Signed struct{ Meta map[string]any }
	}
	w.must(json.Unmarshal(w.last.Snapshot, &is))
	return is.Signed.Meta["flags.json"] != nil
}

// While new signers have not signed flags, the snapshot goes on to name the list of the ones before.
func TestSnapshotNamesTheListOfTheSignersBefore(t *testing.T) {
	t.Parallel()
	w := newFlagWorld(t)
	signers := func(names ...string) {
		var keys []trust.Key
		for _, name := range names {
			keys = append(keys, trusttest.Public(name))
		}
		w.change([]string{"ada", "grace"}, func(d *trust.Draft) error {
			return d.Rotate(trust.Rotation{FlagSigners: keys})
		})
		w.now = w.now.Add(time.Minute)
	}
	signers("mia", "linus")
	if w.serve(); w.snapshotNamesFlags() {
		t.Fatal("it names a list before there is one")
	}
	w.list([]string{"mia", "linus"}, false, part("flags/a", "1"))
	if is := w.verify(w.serve()); is.FlagsFault != nil || !w.snapshotNamesFlags() {
		t.Fatal(is.FlagsFault)
	}
	signers("ken", "rob")
	if is := w.verify(w.serve()); is.FlagsFault == nil || !w.snapshotNamesFlags() {
		t.Errorf("flags %v; or the snapshot names no list", is.Parts)
	}
	w.list([]string{"ken", "rob"}, false, part("flags/a", "2"))
	if is := w.verify(w.serve()); is.FlagsFault != nil || len(is.Parts) != 2 {
		t.Errorf("%v, %v", is.Parts, is.FlagsFault)
	}
}

// The terms of an announcement that was cancelled go with the next signatures. Older definitions of flags stay.
func TestTermsOfCancelledAnnouncementsGo(t *testing.T) {
	t.Parallel()
	w := newFlagWorld(t)
	w.change([]string{"ada", "grace"}, func(d *trust.Draft) error {
		return d.Rotate(trust.Rotation{FlagSigners: []trust.Key{trusttest.Public("mia"), trusttest.Public("linus")}})
	})
	both := []string{"mia", "linus"}
	w.list(both, false, part("flags/a", "1"), part("flags/b", "1"), part("announcements/x", "1"),
		part("announcements/y", "1"))
	w.list(both, false, part("flags/a", "2"), part("announcements/y", "2"))
	var got []string
	for _, p := range w.verify(w.serve()).Parts {
		got = append(got, p.Name+"="+string(p.Custom))
	}
	slices.Sort(got)
	want := []string{`announcements/y={"shut":"1"}`, `announcements/y={"shut":"2"}`, `flags/a={"shut":"1"}`,
		`flags/a={"shut":"2"}`, `flags/b={"shut":"1"}`}
	if !slices.Equal(got, want) {
		t.Errorf("signed: %v", got)
	}
}

// A list that nobody could read, or that would be too long, is not signed.
func TestFlagsWithinLimits(t *testing.T) {
	t.Parallel()
	w := newFlagWorld(t)
	w.change([]string{"ada", "grace"}, func(d *trust.Draft) error {
		return d.Rotate(trust.Rotation{FlagSigners: []trust.Key{trusttest.Public("mia"), trusttest.Public("linus")}})
	})
	parts := make([]trust.Part, trust.MaxParts+1)
	for i := range parts {
		parts[i] = part(fmt.Sprintf("flags/%d", i), "x")
	}
	d, err := trust.NewDraft(w.ledger(), w.now)
	w.must(err)
	if _, _, err := d.ListParts(parts, false); err == nil || !strings.Contains(err.Error(), "--newest-only") {
		t.Errorf("too many: %v", err)
	}
	w.list([]string{"mia", "linus"}, false, parts[:trust.MaxParts]...)
	if is := w.verify(w.serve()); len(is.Parts) != trust.MaxParts || is.FlagsFault != nil {
		t.Errorf("%d parts, %v", len(is.Parts), is.FlagsFault)
	}
}
