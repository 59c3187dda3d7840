package cli

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commandInText matches a command in a sentence: sluice, and the words after it that may be its verb.
var commandInText = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\bsluice((?: [a-z][a-z-]*)+)`) })

// placeFlags are the flags that say where to act: a command that is to be typed next needs them again.
var placeFlags = []string{"repo", "branch", "flags-repo", "flags-branch", "data", "database", "server"}

// notPlaced are the verbs whose place is an argument, or that have none.
var notPlaced = []string{"init", "validate", "help", "version", "completion", "agent", "demo"}

// NextSteps returns a function that completes the commands in a next step: it gives them those flags with which cmd was
// told where to act, so that they work when they are pasted.
func NextSteps(cmd *cobra.Command) func(string) string {
	type typed struct{ name, text string }
	var given []typed
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if slices.Contains(placeFlags, f.Name) {
			given = append(given, typed{f.Name, " --" + f.Name + " " + quoteForShell(f.Value.String())})
		}
	})
	return func(text string) string {
		if len(given) == 0 {
			return text
		}
		var b strings.Builder
		for {
			at := commandInText().FindStringSubmatchIndex(text)
			if at == nil {
				b.WriteString(text)
				return b.String()
			}
			words := strings.Fields(text[at[2]:at[3]])
			verb, _, err := cmd.Root().Find(words)
			depth := 0
			for c := verb; err == nil && c.HasParent(); c = c.Parent() {
				depth++
			}
			end := at[2]
			for _, word := range words[:depth] {
				end += 1 + len(word)
			}
			b.WriteString(text[:end])
			rest, _, _ := strings.Cut(text[end:], ";")
			if depth > 0 && !slices.Contains(notPlaced, words[0]) {
				for _, g := range given {
					if (verb.Flags().Lookup(g.name) != nil || verb.InheritedFlags().Lookup(g.name) != nil) &&
						!strings.Contains(rest, "--"+g.name) {
						b.WriteString(g.text)
					}
				}
			}
			text = text[end:]
		}
	}
}

var plainWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_./:@%+,=-]+$`) })

// quoteForShell returns a word as a shell takes it.
func quoteForShell(word string) string {
	if plainWord().MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
