// Package manifest reads the YAML documents of a release repository strictly.
//
// A document is decoded into a Go value by its yaml tags. Unknown fields, duplicate
// keys, wrong types, missing required fields, aliases beyond reason and oversized files
// are faults with file and line; all of a document's faults are found in one pass, and
// none stops the rest. The same tags give the JSON Schemas in docs/schema.
//
// The package knows no kind of document, reads no git and keeps no state but the caches
// that callers make, and how each Go type is read. All of it is safe for concurrent use; what a
// cache gives out is shared, and must not be changed. It is a leaf: it imports nothing of ours.
package manifest

import (
	"cmp"
	"fmt"
	"slices"
)

// MaxFile is the size, in bytes, beyond which a document is refused unread.
const MaxFile = 1 << 20

// Fault is something wrong in a file, said so that a person can mend it.
type Fault struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // 1-based; 0: the file as a whole
	Message string `json:"message"`
	Warning bool   `json:"warning,omitempty"` // worth saying, stops nothing
}

// String gives the form that editors and compilers share: file:line: message.
func (f Fault) String() string {
	prefix := ""
	if f.Warning {
		prefix = "warning: "
	}
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s%s", f.File, prefix, f.Message)
	}
	return fmt.Sprintf("%s:%d: %s%s", f.File, f.Line, prefix, f.Message)
}

// Sort orders faults by file, line and message, and drops repeats.
func Sort(faults []Fault) []Fault {
	slices.SortFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(faults)
}
