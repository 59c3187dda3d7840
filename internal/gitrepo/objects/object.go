// Package objects is git's object database, read without a child process: packs, deltas and loose objects by id, trees
// and commits as values; and new objects, written loose or as a pack.
//
// The package exists because the engine reads tens of thousands of small files at each start, which costs several times
// more through a general library. It does not know refs, the network or releases, and changes nothing but the loose
// objects that Write adds.
//
// What always holds: bytes that Get returns hash to the requested id, otherwise Get returns an error; sizes are bounded
// before memory is allocated. Packs that appear or vanish (git repack) are noticed at the first miss. A Store may be
// used from several goroutines.
package objects

import (
	"crypto/sha1" //nolint:gosec // git's object ids are SHA-1; index-pack, which lets objects in, looks for collisions
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// ID is an object's id. The zero ID means no object.
type ID [sha1.Size]byte

func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("%.50q is not an object id of 40 hex digits", s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("%.50q is not an object id of 40 hex digits", s)
	}
	return id, nil
}

// String returns 40 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

func (id ID) IsZero() bool { return id == ID{} }

// Kind is an object's kind, numbered as in the pack format.
type Kind byte

// The kinds of objects.
const (
	CommitKind Kind = 1
	TreeKind   Kind = 2
	BlobKind   Kind = 3
	TagKind    Kind = 4

	offsetDelta Kind = 6 // inside packs only
	refDelta    Kind = 7
)

// String returns git's name of the kind.
func (k Kind) String() string {
	switch k {
	case CommitKind:
		return "commit"
	case TreeKind:
		return "tree"
	case BlobKind:
		return "blob"
	case TagKind:
		return "tag"
	}
	return "kind " + strconv.Itoa(int(k))
}

func parseKind(name string) (Kind, bool) {
	for k := CommitKind; k <= TagKind; k++ {
		if k.String() == name {
			return k, true
		}
	}
	return 0, false
}

var (
	// ErrNotFound means that the database has no such object.
	ErrNotFound = errors.New("no such object")
	// ErrCorrupt means that the database's own files are damaged.
	ErrCorrupt = errors.New("corrupt object")
	// ErrTooLarge means that the object exceeds the limit.
	ErrTooLarge = errors.New("object is too large")
)

// NewObject is an object to be written.
type NewObject struct {
	ID     ID
	Kind   Kind
	Data   []byte
	Base   []byte // a similar object that the receiver has; may be nil
	BaseID ID     // the id of Base
}

// Make returns data as an object with its id.
func Make(kind Kind, data []byte) NewObject {
	return NewObject{ID: Sum(kind, data), Kind: kind, Data: data}
}

// Sum returns the id of an object.
func Sum(kind Kind, data []byte) ID {
	h := sha1.New() //nolint:gosec // see above
	h.Write(objectHeader(nil, kind, len(data)))
	h.Write(data)
	var id ID
	h.Sum(id[:0])
	return id
}

func objectHeader(b []byte, kind Kind, size int) []byte {
	b = append(b, kind.String()...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(size), 10)
	return append(b, 0)
}
