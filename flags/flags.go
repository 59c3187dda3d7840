// Package flags says what a feature flag is, when it is on in a cell, and what it evaluates to: what an agent and other people's
// programs need, and nothing else.
//
// What concerns one cell is a Bundle, sent ahead of time: definitions in flagd's schema v0, unchanged, and the gates of announcements.
// Compile makes its rules quick, Fold settles for one cell and instant which flags may be on at all, and the Folded that comes of it
// evaluates them with flagd's own results.
//
// A flag that names a feature is on only where: it is not killed, an announcement of the feature reaches the cell and its
// time has come, every release that may run in the cell contains the feature, and the ramp includes the caller (design,
// section 8). That is computed from the level of things each time, never kept. No caller's context can change it but by the
// ramp's key (R36).
//
// Everything is a value and pure: the instant is passed in, nothing reads a clock, a file or the network. Compiled and folded values
// are immutable and safe for concurrent use; a SetReader is for one file. The package never panics on what it reads.
//
// A product's program links it: it imports nothing but the standard library, flags/jsonlogic and internal/jsondoc. What a flags
// repository says, flags/repository reads and checks; who may decide what, and what is committed when, is flags/announce's.
package flags

// Definition is one flag, as flagd reads it, with references to $evaluators resolved. Immutable.
type Definition struct {
	Key            string
	Disabled       bool
	Variants       map[string]any // values as encoding/json gives them
	DefaultVariant string         // empty: none, which Load refuses
	Targeting      []byte         // JSON; empty: none
	Metadata       map[string]any // the flag's over the set's: string, bool or float64

	File string // where it stands
	Line int
}

// Feature is what the flag's code is called in release.yaml; empty: the flag is not gated (R37).
func (d *Definition) Feature() string { return d.metadataText("feature") }

// Off is the variant that a gated flag has while its gate is shut (R37).
func (d *Definition) Off() string { return d.metadataText("off") }

// Client tells whether browsers may see the flag (R45).
func (d *Definition) Client() bool { return d.metadataText("expose") == "client" }

func (d *Definition) metadataText(name string) string {
	s, _ := d.Metadata[name].(string)
	return s
}
