package agentcmd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// RunChild runs those verbs that the agent starts as children of its own, before any setup, and returns the exit code;
// ok is false for all other command lines.
func RunChild(args []string, stdin io.Reader, stdout, stderr io.Writer) (code int, ok bool) {
	switch {
	case len(args) == 0:
	case len(args) == 1 && args[0] == render.ChildVerb && isPipe(stdin):
		return render.Main(stdin, stdout, stderr), true // the child limits its own memory
	case args[0] == superviseName:
		return supervise(args[1:], stderr), true
	case args[0] == encloseName:
		return enclose(args[1:], stderr), true
	}
	return 0, false
}

// isPipe reports whether a program writes to in: not a person at a terminal, nor nobody (/dev/null).
func isPipe(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return true
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice == 0
}

// superviseName is the hidden verb that the agent starts between itself and a hook: see process.Supervise. RunChild
// runs it; the command here only describes it.
const superviseName = "supervise"

func SuperviseVerb(*cli.App) *cobra.Command {
	return &cobra.Command{
		Use:    superviseName + " GRACE COMMAND [ARGUMENT]...",
		Hidden: true,
		Short:  "Run a command for an agent, and end all that it started when told to end",
		Args:   cli.ArgumentCount(2, -1, "GRACE and COMMAND"),
		RunE:   func(*cobra.Command, []string) error { return nil },
	}
}

// supervise runs the verb and returns the exit code.
func supervise(args []string, stderr io.Writer) int {
	grace, code, err := time.Duration(0), 0, errors.New("GRACE and COMMAND are missing")
	if len(args) >= 2 {
		grace, err = time.ParseDuration(args[0])
	}
	if err == nil {
		code, err = process.Supervise(grace, args[1:])
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "sluice supervise:", err) // the agent keeps it as the hook's output
		return 1
	}
	return code
}

// encloseName is the hidden verb that the agent starts around each command of a debug session: see process.RunEnclosed.
// RunChild runs it; the command here only describes it.
const encloseName = "enclose"

func EncloseVerb(*cli.App) *cobra.Command {
	return &cobra.Command{
		Use:    encloseName + " HOW GRACE COMMAND [ARGUMENT]...",
		Hidden: true,
		Short:  "Run a command of a debug session, and kill all that it started when it ends",
		Args:   cli.ArgumentCount(3, -1, "HOW, GRACE and COMMAND"),
		RunE:   func(*cobra.Command, []string) error { return nil },
	}
}

// enclose runs the verb and returns the exit code.
func enclose(args []string, stderr io.Writer) int {
	code, err := 0, errors.New("HOW, GRACE and COMMAND are missing")
	if len(args) >= 3 {
		code, err = process.RunEnclosed(args[0], args[2:]) // commands of debug sessions have no grace
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "sluice enclose:", err)
		return 127
	}
	return code
}
