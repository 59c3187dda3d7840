package debug

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// Scope is what a session may do.
type Scope string

const (
	Read  Scope = "read"  // run the commands that the release declares in diagnostics.yaml
	Shell Scope = "shell" // have a terminal, as the user that the owner chose

	execPrefix = "exec:" // run one declared command, which follows
)

var commandName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
})

// Command returns the only declared command that the scope permits; "": the scope is no exec:NAME.
func (s Scope) Command() string {
	name, _ := strings.CutPrefix(string(s), execPrefix)
	if name == string(s) {
		return ""
	}
	return name
}

// Validate checks the scope's form.
func (s Scope) Validate() error {
	switch {
	case s == Read, s == Shell, commandName().MatchString(s.Command()):
		return nil
	case s == "logs":
		return errors.New("scope logs is not built yet: use read, with a declared command that prints the logs " +
			"(diagnostics.yaml of the release)")
	}
	return fmt.Errorf("scope %.70q: use read, shell, or exec:NAME with the name of a declared command", string(s))
}

// Describe returns what the scope lets the person do, for the cell's owner.
func (s Scope) Describe() string {
	switch s {
	case Read:
		return "run the diagnostic commands that the release declares"
	case Shell:
		return "use a shell: every command, as the user that you choose"
	}
	return "run the diagnostic command " + s.Command()
}
