package objects

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Mode is the type and permission of a tree's entry, in git's encoding.
type Mode uint32

// git's modes. Every other mode is read as one of them.
const (
	ModeTree    Mode = 0o040000
	ModeFile    Mode = 0o100644
	ModeExec    Mode = 0o100755
	ModeSymlink Mode = 0o120000
	ModeGitlink Mode = 0o160000
)

// Entry is one line of a tree.
type Entry struct {
	Name  string
	Mode  Mode
	ID    ID
	Fault error // why the entry can't be read, though its folder can be; nil: it can
}

func (e Entry) IsTree() bool { return e.Mode == ModeTree }

// ErrMalformedTree means that a tree, or one of its entries, is as git itself never writes it.
var ErrMalformedTree = errors.New("malformed tree")

// CheckName refuses names that no file in a release repository may have: names that lead elsewhere, and git's own
// names.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == "..",
		strings.ContainsAny(name, "/\\\x00"),
		!utf8.ValidString(name),
		strings.EqualFold(name, ".git"), strings.EqualFold(name, "git~1"):
		return fmt.Errorf("%w: entry %.100q is not a file name", ErrMalformedTree, name)
	}
	return nil
}

// maxModeDigits bounds a mode's octal digits: git writes at most six, and reads leading zeros.
const maxModeDigits = 12

// cutRawEntry cuts the first entry off a raw tree. It checks the form, but not the name. The mode is as git reads it.
func cutRawEntry(raw []byte) (mode Mode, name []byte, id ID, rest []byte, err error) {
	sp := bytes.IndexByte(raw, ' ')
	nul := bytes.IndexByte(raw, 0)
	if sp < 1 || sp > maxModeDigits || nul < sp || len(raw) < nul+1+len(id) {
		return 0, nil, id, nil, fmt.Errorf("%w: it ends in the middle of an entry", ErrMalformedTree)
	}
	for _, c := range raw[:sp] {
		if c < '0' || c > '7' {
			return 0, nil, id, nil, fmt.Errorf("%w: mode %q", ErrMalformedTree, raw[:sp])
		}
		mode = mode<<3 | Mode(c-'0')
	}
	copy(id[:], raw[nul+1:])
	return knownMode(mode), raw[sp+1 : nul], id, raw[nul+1+len(id):], nil
}

// ParseTree reads a tree of at most limit entries, sorted by name. An entry whose name no file may have, or that is
// there twice, has a Fault; the other entries are as they are (R47). A tree that ends in the middle of an entry, or has
// something else for a mode, is an error.
func ParseTree(raw []byte, limit int) ([]Entry, error) {
	list := make([]Entry, 0, min(len(raw)/28, limit))
	sorted := true
	text := string(raw) // one copy, shared by all names
	for len(raw) > 0 {
		if len(list) == limit {
			return nil, fmt.Errorf("%w: a folder of more than %d entries", ErrTooLarge, limit)
		}
		mode, name, id, rest, err := cutRawEntry(raw)
		if err != nil {
			return nil, err
		}
		at := len(text) - len(raw) + bytes.IndexByte(raw, ' ') + 1
		e := Entry{Name: text[at : at+len(name)], Mode: mode, ID: id}
		e.Fault = CheckName(e.Name)
		sorted = sorted && (len(list) == 0 || list[len(list)-1].Name < e.Name)
		list, raw = append(list, e), rest
	}
	if !sorted {
		slices.SortStableFunc(list, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
		for i := 1; i < len(list); i++ {
			if a, b := &list[i-1], &list[i]; a.Name == b.Name {
				a.Fault = fmt.Errorf("%w: entry %.100q is there twice", ErrMalformedTree, b.Name)
				b.Fault = a.Fault
			}
		}
	}
	return list, nil
}

// CheckForm returns the error that ParseTree would return.
func CheckForm(raw []byte, limit int) error {
	for n := 0; len(raw) > 0; n++ {
		if n == limit {
			return fmt.Errorf("%w: a folder of more than %d entries", ErrTooLarge, limit)
		}
		_, _, _, rest, err := cutRawEntry(raw)
		if err != nil {
			return err
		}
		raw = rest
	}
	return nil
}

// InOrder reports whether the entries of a raw tree of the right form are as git sorts them, with no name twice side by
// side.
func InOrder(raw []byte) bool {
	var before, name []byte
	for first := true; len(raw) > 0; first = false {
		mode, n, _, rest, err := cutRawEntry(raw)
		if err != nil {
			return false
		}
		name = append(name[:0], n...)
		if mode == ModeTree {
			name = append(name, '/')
		}
		if !first && bytes.Compare(before, name) >= 0 {
			return false
		}
		before, name, raw = name, before, rest
	}
	return true
}

// knownMode reads a mode as git does: old and foreign tools wrote other permissions than git's.
func knownMode(m Mode) Mode {
	const kind = 0o170000
	switch m & kind {
	case ModeTree:
		return ModeTree
	case ModeFile & kind:
		if m&0o100 != 0 {
			return ModeExec
		}
		return ModeFile
	case ModeSymlink:
		return ModeSymlink
	}
	return ModeGitlink
}

// orderKey is git's sort key of entries: a folder sorts as if its name ended in a slash.
func orderKey(e Entry) string {
	if e.IsTree() {
		return e.Name + "/"
	}
	return e.Name
}

// Find looks up a name in a result of ParseTree.
func Find(tree []Entry, name string) (Entry, bool) {
	i, ok := slices.BinarySearchFunc(tree, name, func(e Entry, name string) int { return cmp.Compare(e.Name, name) })
	if !ok {
		return Entry{}, false
	}
	return tree[i], true
}

// EncodeTree encodes a tree as git does. The entries may be in any order, and are not reordered.
func EncodeTree(entries []Entry) []byte {
	list := slices.Clone(entries)
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(orderKey(a), orderKey(b)) })
	size := 0
	for _, e := range list {
		size += len(e.Name) + 28
	}
	raw := make([]byte, 0, size)
	for _, e := range list {
		raw = strconv.AppendUint(raw, uint64(e.Mode), 8)
		raw = append(raw, ' ')
		raw = append(raw, e.Name...)
		raw = append(raw, 0)
		raw = append(raw, e.ID[:]...)
	}
	return raw
}

// Lookup finds one name in a raw tree. It does not check the rest of the tree.
func Lookup(raw []byte, name string) (Entry, bool, error) {
	for len(raw) > 0 {
		mode, n, id, rest, err := cutRawEntry(raw)
		if err != nil {
			return Entry{}, false, err
		}
		if string(n) == name {
			return Entry{Name: name, Mode: mode, ID: id}, true, nil
		}
		raw = rest
	}
	return Entry{}, false, nil
}

// Difference is a name that differs between two trees. A side without the name has the zero Entry.
type Difference struct {
	Name     string
	Old, New Entry
}

// Diff compares two raw trees entry by entry; equal parts cost almost nothing. Either tree may be empty.
func Diff(before, after []byte, found func(Difference) error) error {
	for len(before) > 0 || len(after) > 0 {
		if shared := sharedEntries(before, after); shared > 0 {
			before, after = before[shared:], after[shared:]
			continue
		}
		var old, now Entry
		var oldRest, nowRest []byte
		var err error
		if len(before) > 0 {
			if old, oldRest, err = cutEntry(before); err != nil {
				return err
			}
		}
		if len(after) > 0 {
			if now, nowRest, err = cutEntry(after); err != nil {
				return err
			}
		}
		// A file and a folder of the same name count as two differences, since git sorts them at two places.
		switch c := cmp.Compare(orderKey(old), orderKey(now)); {
		case len(after) == 0 || len(before) > 0 && c < 0:
			before, now = oldRest, Entry{}
		case len(before) == 0 || c > 0:
			after, old = nowRest, Entry{}
		default:
			before, after = oldRest, nowRest
		}
		if err := found(Difference{Name: cmp.Or(old.Name, now.Name), Old: old, New: now}); err != nil {
			return err
		}
	}
	return nil
}

func cutEntry(raw []byte) (Entry, []byte, error) {
	mode, name, id, rest, err := cutRawEntry(raw)
	return Entry{Name: string(name), Mode: mode, ID: id}, rest, err
}

// sharedEntries returns the length of the whole entries that both trees begin with.
func sharedEntries(a, b []byte) int {
	n, at := commonPrefix(a, b), 0
	for at < n {
		nul := bytes.IndexByte(a[at:], 0)
		if nul < 0 || at+nul+1+len(ID{}) > n {
			break
		}
		at += nul + 1 + len(ID{})
	}
	return at
}

func commonPrefix(a, b []byte) int {
	const block = 256
	n, at := min(len(a), len(b)), 0
	for at+block <= n && bytes.Equal(a[at:at+block], b[at:at+block]) {
		at += block
	}
	for at < n && a[at] == b[at] {
		at++
	}
	return at
}
