package objects

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// What ParseTree takes is written as it was, up to order and modes, and no name that leads elsewhere can be read.
func FuzzParseTree(f *testing.F) {
	id := strings.Repeat("\x01", 20)
	for _, seed := range []string{"", "100644 a\x00" + id, "100644 a\x00" + id + "40000 b\x00" + id,
		"40000 a\x00" + id + "100644 a.b\x00" + id,
		"100644 a.b\x00" + id + "40000 a\x00" + id, "120000 l\x00" + id, "160000 m\x00" + id, "100644 ../x\x00" + id,
		"100644 .git\x00" + id, "100664 g\x00" + id} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := ParseTree(raw, 1000)
		if err != nil {
			if !errors.Is(err, ErrMalformedTree) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		again := EncodeTree(list)
		back, err := ParseTree(again, 1000)
		if err != nil || len(back) != len(list) {
			t.Fatalf("%q is written as %q: %v", raw, again, err)
		}
		seen := map[string]bool{}
		for i, e := range list {
			b := back[i]
			if b.Name != e.Name || b.Mode != e.Mode && e.Fault == nil || (b.Fault == nil) != (e.Fault == nil) {
				t.Fatalf("%+v is read again as %+v", e, b)
			}
			found, ok := Find(list, e.Name)
			if !ok || found.Name != e.Name {
				t.Fatalf("does not find %q", e.Name)
			}
			if e.Fault != nil {
				if found.Fault == nil {
					t.Fatalf("finds %q without its fault", e.Name)
				}
				continue
			}
			if seen[e.Name] || e.Name == "" || e.Name == "." || e.Name == ".." || strings.EqualFold(e.Name, ".git") ||
				strings.ContainsAny(e.Name, "/\x00") {
				t.Fatalf("took %q", e.Name)
			}
			seen[e.Name] = true
			if found.ID != e.ID {
				t.Fatalf("does not find %q", e.Name)
			}
			if found, ok, err := Lookup(raw, e.Name); err != nil || !ok || found.ID != e.ID {
				t.Fatalf("does not look up %q", e.Name)
			}
		}
		if err := Diff(raw, raw, func(d Difference) error { return errors.New(d.Name) }); err != nil {
			t.Fatalf("differs from itself: %v", err)
		}
		n := 0
		if err := Diff(nil, raw, func(Difference) error { n++; return nil }); err != nil || n != len(list) {
			t.Fatalf("%d of %d are new: %v", n, len(list), err)
		}
	})
}

func FuzzDiff(f *testing.F) {
	f.Add([]byte("abc"), []byte("abd"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		before, after := treeOfBytes(a), treeOfBytes(b)
		got := map[string]bool{}
		err := Diff(EncodeTree(before), EncodeTree(after), func(d Difference) error {
			if got[d.Name] || d.Old == d.New {
				t.Fatalf("%+v twice, or the same", d)
			}
			got[d.Name] = true
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range [][]Entry{before, after} {
			for _, e := range list {
				x, _ := Find(before, e.Name)
				y, _ := Find(after, e.Name)
				if (x != y) != got[e.Name] {
					t.Fatalf("%s differs: %v, told: %v", e.Name, x != y, got[e.Name])
				}
			}
		}
	})
}

// treeOfBytes makes a tree of files whose names and ids depend on the bytes.
func treeOfBytes(raw []byte) []Entry {
	var list []Entry
	for i := byte('a'); i <= 'z'; i++ {
		if n := bytes.Count(raw, []byte{i}); n > 0 {
			list = append(list, Entry{Name: string(i), Mode: ModeFile, ID: ID{byte(n)}})
		}
	}
	return list
}

func FuzzDelta(f *testing.F) {
	f.Add([]byte("the base"), []byte("the other base"), []byte{8, 3, 0x90, 3})
	f.Add(bytes.Repeat([]byte("x"), 300), []byte(strings.Repeat("x", 130)+strings.Repeat("y", 200)+"x"),
		[]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, base, data, delta []byte) {
		got, err := applyDelta(base, makeDelta(base, data), 1<<20)
		if err != nil && !errors.Is(err, ErrTooLarge) || err == nil && !bytes.Equal(got, data) {
			t.Fatalf("%q from %q: %q, %v", data, base, got, err)
		}
		if out, err := applyDelta(base, delta, 1<<16); err == nil && len(out) > 1<<16 {
			t.Fatalf("%d bytes", len(out))
		}
	})
}

// A signature covers everything but itself, and Encode undoes ParseCommit.
func FuzzCommit(f *testing.F) {
	id := strings.Repeat("a", 40)
	f.Add([]byte("tree " + id + "\nauthor A <a@b> 1 +0100\ncommitter A <a@b> 1 +0100\n\nmessage\n"))
	f.Add([]byte("tree " + id + "\nparent " + id +
		"\nauthor A <a@b> 1 -0230\ncommitter A <a@b> 99999999999999 +0000\ngpgsig -----BEGIN\n x\n \n -----END\n\nmessage\n"))
	f.Add([]byte("tree " + id + "\nmergetag object\n gpgsig x\nauthor <<>>\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseCommit(raw)
		if err != nil {
			return
		}
		if c.Author.When.Year() > 9999 || c.Author.When.Year() < 0 {
			t.Fatalf("a time that can't be written: %v", c.Author.When)
		}
		again, err := ParseCommit(c.Encode())
		if err != nil || again.Tree != c.Tree || len(again.Parents) != len(c.Parents) || again.Message != c.Message &&
			!strings.HasPrefix(c.Message, "\n") {
			t.Fatalf("%q is read again as %+v, %v", c.Encode(), again, err)
		}
		if c.Signature == nil && !bytes.Contains(raw, []byte("gpgsig")) {
			if u := StripSignatures(raw); bytes.Contains(raw, []byte("\n\n")) &&
				!bytes.Contains(raw, []byte("\n\n\n")) && raw[0] != '\n' && !bytes.Equal(u, raw) {
				t.Fatalf("unsigned: %q of %q", u, raw)
			}
		}
	})
}

func FuzzPackEntry(f *testing.F) {
	f.Add([]byte{0xb5, 0x01, 0x78, 0x9c}, int64(1000))
	f.Add([]byte{0x65, 0x01, 0x78, 0x9c}, int64(1000))
	f.Fuzz(func(t *testing.T, raw []byte, offset int64) {
		var e packEntry
		var size int64
		n, err := e.parseHead(raw, offset, &size)
		if err != nil && !errors.Is(err, ErrCorrupt) || err == nil &&
			(n > len(raw) || size < 0 || e.kind == offsetDelta && e.baseOffset >= offset) {
			t.Fatalf("%d of %d, size %d, %+v, %v", n, len(raw), size, e, err)
		}
	})
}
