// Package manifest reads the YAML documents of a release repository strictly.
//
// A document is decoded into a Go value by its yaml tags. Unknown fields, duplicate
// keys, wrong types, missing required fields, aliases beyond reason and oversized files
// are faults with file and line; all of a document's faults are found in one pass, and
// none stops the rest. The same tags give the JSON Schemas in docs/schema.
//
// The package knows no kind of document, reads no git and keeps no state but the caches
// that callers make, and how each Go type is read. All of it is safe for concurrent use; what a
// cache gives out is shared, and must not be changed. Of ours it imports internal/jsondoc alone.
package manifest

import (
	"cmp"
	"slices"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// MaxFile is the size, in bytes, beyond which a document is refused unread.
const MaxFile = jsondoc.MaxFile

// Fault is something wrong in a file. It is jsondoc's own, so that who reads only JSON has it without YAML.
type Fault = jsondoc.Fault

// FaultCode is a class of faults.
type FaultCode = jsondoc.FaultCode

// The classes of faults, as jsondoc has them.
const (
	Syntax           = jsondoc.Syntax
	Encoding         = jsondoc.Encoding
	UnknownField     = jsondoc.UnknownField
	Duplicate        = jsondoc.Duplicate
	Missing          = jsondoc.Missing
	WrongType        = jsondoc.WrongType
	WrongValue       = jsondoc.WrongValue
	WrongName        = jsondoc.WrongName
	TooLarge         = jsondoc.TooLarge
	UnknownReference = jsondoc.UnknownReference
	Conflict         = jsondoc.Conflict
	Unused           = jsondoc.Unused
	Immutable        = jsondoc.Immutable
	Forbidden        = jsondoc.Forbidden
	Secret           = jsondoc.Secret
	Unprotected      = jsondoc.Unprotected
	Unreadable       = jsondoc.Unreadable
)

// Sort orders faults by file, line and message, and drops repeats.
func Sort(faults []Fault) []Fault {
	slices.SortFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(faults)
}
