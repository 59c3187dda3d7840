package cli

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/sluice-cd/sluice/internal/words"
)

// durationFlag is the value of a flag that takes a length of time.
type durationFlag time.Duration

// AddDurationFlag adds a flag that takes a length of time as people write it, in days too: 36h, 7d, 2d12h.
func AddDurationFlag(flags *pflag.FlagSet, into *time.Duration, name string, value time.Duration, usage string) {
	*into = value
	flags.Var((*durationFlag)(into), name, usage)
	if value == 0 {
		flags.Lookup(name).DefValue = "" // help does not show it
	}
}

// Set parses what a person typed.
func (d *durationFlag) Set(text string) error {
	parsed, err := words.ParseDuration(text)
	if err == nil {
		*d = durationFlag(parsed)
	}
	return err
}

// String returns the length in a form that pflag.FlagSet.GetDuration parses.
func (d *durationFlag) String() string { return words.ExactDuration(time.Duration(*d)) }

// Type returns pflag's name for such flags.
func (d *durationFlag) Type() string { return "duration" }
