package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// A length of time may be written in days in every flag, and is read back exactly.
func TestDurationFlag(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"36h": 36 * time.Hour, "7d": 7 * 24 * time.Hour, "2d12h": 60 * time.Hour, "90s": 90 * time.Second, "0s": 0,
		"1h0m30s": time.Hour + 30*time.Second,
	} {
		var got time.Duration
		flags := pflag.NewFlagSet("verb", pflag.ContinueOnError)
		AddDurationFlag(flags, &got, "for", time.Minute, "how long")
		if err := flags.Parse([]string{"--for", text}); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
		if again, err := flags.GetDuration("for"); err != nil || again != want {
			t.Errorf("%s: GetDuration returns %s, %v", text, again, err)
		}
	}
	for _, text := range []string{"", "2", "1.5d", "1w", "2d -1h", "x"} {
		var got time.Duration
		flags := pflag.NewFlagSet("verb", pflag.ContinueOnError)
		AddDurationFlag(flags, &got, "for", time.Minute, "how long")
		err := flags.Parse([]string{"--for=" + text})
		if err == nil || !strings.Contains(err.Error(), "7d or 2d12h") || got != time.Minute {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

// Help shows a default as people write it, and none where there is none.
func TestDurationFlagDefault(t *testing.T) {
	var a, b time.Duration
	flags := pflag.NewFlagSet("verb", pflag.ContinueOnError)
	AddDurationFlag(flags, &a, "for", 72*time.Hour, "how long")
	AddDurationFlag(flags, &b, "soak", 0, "how long first")
	if usage := flags.FlagUsages(); !strings.Contains(usage, "(default 72h)") ||
		strings.Count(usage, "default") != 1 || strings.Count(usage, "duration") != 2 {
		t.Error(usage)
	}
}
