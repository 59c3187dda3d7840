// Package manifest reads the YAML documents of a release repository strictly.
//
// A document is decoded into a Go value by its yaml tags. Unknown fields, duplicate keys, wrong types, missing required
// fields, too many aliases and oversized files are faults with file and line. One pass finds all of a document's
// faults; none stops the rest. The JSON Schemas in docs/schema are made of the same tags.
//
// The package knows no kind of document, reads no git, and keeps no state except the caches that callers make and how
// each Go type is read. All of it is safe for concurrent use; a value from a cache is shared, and must not be changed.
// Of this module it imports internal/jsondoc alone.
package manifest

import (
	"cmp"
	"slices"

	"github.com/sluice-cd/sluice/internal/jsondoc"
)

// MaxFile is the size, in bytes, beyond which a document is refused unread.
const MaxFile = jsondoc.MaxFile

// Fault is jsondoc's own type, so that a program that reads only JSON has faults without YAML.
type Fault = jsondoc.Fault

// FaultCode is a class of faults.
type FaultCode = jsondoc.FaultCode

// The classes of faults.
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
	Unsigned         = jsondoc.Unsigned
	Unconfirmed      = jsondoc.Unconfirmed
	Unreadable       = jsondoc.Unreadable
)

// Sort orders faults by file, line and message, and drops repeats.
func Sort(faults []Fault) []Fault {
	slices.SortFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(faults)
}
