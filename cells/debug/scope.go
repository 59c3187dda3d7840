package debug

import (
	"fmt"
	"strings"

	"github.com/sluice-cd/sluice/releases/diagnostics"
)

// Scope is what a session may do.
type Scope string

const (
	Read  Scope = "read"  // run the commands that the release declares in diagnostics.yaml
	Logs  Scope = "logs"  // read the logs that the release declares, and those of its pods
	Shell Scope = "shell" // have a terminal, as the user or in the pod that the owner chose

	execPrefix = "exec:" // run one declared command, which follows
)

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
	if s == Read || s == Logs || s == Shell || diagnostics.ValidName(s.Command()) {
		return nil
	}
	return fmt.Errorf("scope %.70q: use read, logs, shell, or exec:NAME with the name of a declared command", string(s))
}

// ChangesNothing reports whether no session of the scope can change anything in the cell.
func (s Scope) ChangesNothing() bool { return s == Logs }

// Describe returns what the scope lets the person do, for the cell's owner.
func (s Scope) Describe() string {
	switch s {
	case Read:
		return "run the diagnostic commands that the release declares"
	case Logs:
		return "read logs of what the cell runs, and nothing else"
	case Shell:
		return "use a shell: every command, as the user or in the pod that you choose"
	}
	return "run the diagnostic command " + s.Command()
}
