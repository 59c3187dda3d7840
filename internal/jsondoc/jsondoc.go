// Package jsondoc reads JSON documents whose fields are not known beforehand, strictly, and writes them in one form.
//
// Unlike encoding/json, it reports the line of each value, and a key that occurs twice. All faults of a document have
// its file and a line; a document beyond the limits is refused. Package manifest makes the same Nodes of YAML that has
// only what JSON can express. Nodes are values, shared freely and never changed; a Checker serves one document, and one
// goroutine at a time.
//
// Programs that evaluate flags link the package, so it imports nothing but the standard library.
package jsondoc

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Node is a value, and the line where it stands.
type Node struct {
	Line  int
	Value any // nil, bool, float64, string, []Node or Members
}

// Members are the members of a mapping, in the document's order, no key twice.
type Members []Member

// Member is a key, the line where it stands, and its value.
type Member struct {
	Key  string
	Line int
	Node
}

// Get returns the member with that key, nil if there is none.
func (m Members) Get(key string) *Member {
	for i := range m {
		if m[i].Key == key {
			return &m[i]
		}
	}
	return nil
}

// IsCollection reports whether the node is a list or a mapping.
func (n Node) IsCollection() bool {
	switch n.Value.(type) {
	case Members, []Node:
		return true
	}
	return false
}

// Fault is a mistake in a file, described so that a person can correct it.
type Fault struct {
	File    string    `json:"file"`
	Line    int       `json:"line,omitempty"` // 1-based; 0: the file as a whole
	Code    FaultCode `json:"code" doc:"its class; docs/formats.md lists them"`
	Message string    `json:"message"`
	Warning bool      `json:"warning,omitempty"` // stops nothing
}

// String formats a fault as editors and compilers do: file:line: message.
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

const (
	// MaxFile is the size, in bytes, beyond which a document is refused unread.
	MaxFile = 1 << 20
	// MaxInteger is the largest whole number that all JSON readers agree about.
	MaxInteger = 1 << 53
	// MaxNumber is the length of the longest number that is read, in bytes. No two float64 need more to be told apart.
	MaxNumber = 64

	maxFaults = 100 // faults of one document; the rest is found once these are corrected
)

// Limits bounds a document.
type Limits struct {
	Depth int // levels of nested lists and mappings
	Text  int // bytes of one text or key
}

// Checker compares the values of one document with its limits, whatever the notation, and collects the faults.
type Checker struct {
	File   string
	Limits Limits
	Faults []Fault

	depth   int
	stopped bool
}

// Stopped reports whether the rest of the document is not worth reading: a limit is exceeded, or there are too many
// faults.
func (c *Checker) Stopped() bool { return c.stopped }

// Stop adds a last fault, which says why the rest of the document is not read.
func (c *Checker) Stop(code FaultCode, line int, format string, args ...any) {
	if !c.stopped {
		c.Fault(code, line, format, args...)
		c.stopped = true
	}
}

// Fault adds a fault. The fault after the last one allowed stops the document.
func (c *Checker) Fault(code FaultCode, line int, format string, args ...any) {
	if c.stopped {
		return
	}
	if len(c.Faults) == maxFaults {
		c.stopped = true
		code, format, args = TooLarge, "and more: correct these first", nil
	}
	c.Faults = append(c.Faults, Fault{File: c.File, Line: line, Code: code, Message: fmt.Sprintf(format, args...)})
}

// Enter counts the beginning of a list or mapping, and reports whether to read it. Leave counts the end.
func (c *Checker) Enter(line int) bool {
	if c.depth++; c.depth > c.Limits.Depth {
		c.Stop(TooLarge, line, "nests deeper than %d levels", c.Limits.Depth)
	}
	return !c.stopped
}

func (c *Checker) Leave() { c.depth-- }

// Text returns s; a text that is too long is a fault.
func (c *Checker) Text(s string, line int) string {
	if len(s) > c.Limits.Text {
		c.Fault(TooLarge, line, "has a text of %d bytes: at most %d are read", len(s), c.Limits.Text)
		return ""
	}
	return s
}

// Number reads a number that IsNumber accepts. A whole number that a float64 can't represent is a warning, since its
// value changes.
func (c *Checker) Number(s string, line int) any {
	if len(s) > MaxNumber {
		c.Fault(TooLarge, line, "has a number of %d digits: at most %d are read", len(s), MaxNumber)
		return nil
	}
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		c.Fault(WrongValue, line, "%s is a number beyond what can be represented", Clip(s))
		return nil
	}
	if math.Abs(x) >= MaxInteger && !strings.ContainsAny(s, ".eE") &&
		strconv.FormatFloat(x, 'f', 0, 64) != strings.TrimPrefix(s, "+") && len(c.Faults) < maxFaults {
		message := Clip(s) + " is a number too large to be exact: put it in quotes"
		c.Faults = append(c.Faults, Fault{File: c.File, Line: line, Code: WrongValue, Message: message, Warning: true})
	}
	return x
}
