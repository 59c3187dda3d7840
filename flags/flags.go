// Package flags evaluates the feature flags of one cell. An agent and other people's programs import the package.
//
// A cell receives a Bundle ahead of time: definitions in flagd's schema v0, unchanged, and the gates of announcements.
// Compile compiles the rules, Fold decides for one cell and instant which flags may be on, and the Folded evaluates
// flags with flagd's results.
//
// A flag that names a feature is on only where the flag is not killed, an announcement of the feature reaches the cell
// and its time has come, every release that may run in the cell contains the feature, and the ramp includes the caller
// (design, section 8). Fold computes this anew from its input each time. A caller's context can change the outcome only
// by the ramp's key (R36).
//
// The package never reads a clock, a file or the network: callers pass the instant. Bundles, Compiled and Folded are
// values; Compiled and Folded are immutable and safe for concurrent use, a SetReader is for one file. No input makes
// the package panic.
//
// Imports are limited to the standard library, flags/jsonlogic and internal/jsondoc, since products link the package.
// flags/repository reads and checks a flags repository; flags/announce decides what is committed and when.
package flags

// Definition is one flag as flagd reads it, with references to $evaluators resolved. Immutable.
type Definition struct {
	Key            string
	Disabled       bool
	Variants       map[string]any // values as encoding/json decodes them
	DefaultVariant string         // empty: none, so that callers get the default in their code
	Targeting      []byte         // JSON; empty: no rule
	Metadata       map[string]any // the flag's over the set's: string, bool or float64

	File string // the file of the definition
	Line int
}

// Feature returns the feature that release.yaml lists for the flag's code; empty: the flag is not gated (R37).
func (d *Definition) Feature() string { return d.metadataText("feature") }

// Off returns the variant of a gated flag while the flag's gate is shut (R37).
func (d *Definition) Off() string { return d.metadataText("off") }

// Client reports whether browsers may see the flag (R45).
func (d *Definition) Client() bool { return d.metadataText("expose") == "client" }

func (d *Definition) metadataText(name string) string {
	s, _ := d.Metadata[name].(string)
	return s
}
