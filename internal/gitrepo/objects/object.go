// Package objects is git's object database, read without a child process: packs, deltas and
// loose objects by id, trees and commits as values; and new objects, written loose or as a pack.
//
// It exists because the engine reads tens of thousands of small files at each start, which one
// object at a time through a general library costs several times more. It knows nothing of refs,
// of the network or of releases, and it changes nothing but the loose objects that Write adds.
//
// What always holds: bytes that Get returns hash to the id that was asked for, else it is an
// error; sizes are bounded before memory is taken. Packs that appear or vanish (git repack) are
// noticed at the first miss. A Store may be used from several goroutines.
package objects

import (
	"crypto/sha1" //nolint:gosec // git's object ids are SHA-1; index-pack, which lets objects in, looks for collisions
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// ID is an object's id. The zero ID means none.
type ID [sha1.Size]byte

// ParseID reads 40 hex digits.
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

// String gives 40 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero tells whether id means none.
func (id ID) IsZero() bool { return id == ID{} }

// Kind is what an object is. The numbers are those of the pack format.
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

// String gives git's name of the kind.
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
	// ErrNotFound: the database has no such object.
	ErrNotFound = errors.New("no such object")
	// ErrCorrupt: the database's own files are damaged.
	ErrCorrupt = errors.New("corrupt object")
	// ErrTooLarge: the object is beyond the limit.
	ErrTooLarge = errors.New("object is too large")
)

// NewObject is an object to be written.
type NewObject struct {
	ID     ID
	Kind   Kind
	Data   []byte
	Base   []byte // bytes of an object that the receiver has and that is much like this one; may be nil
	BaseID ID     // the id of Base
}

// Make gives data its id.
func Make(kind Kind, data []byte) NewObject {
	return NewObject{ID: Sum(kind, data), Kind: kind, Data: data}
}

// Sum is the id of an object.
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
