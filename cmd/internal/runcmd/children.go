package runcmd

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// SuperviseName is the hidden verb that the agent starts between itself and a hook: see process.Supervise. package main
// runs it before any setup; the command here only describes it.
const SuperviseName = "supervise"

func SuperviseVerb(*cli.App) *cobra.Command {
	return &cobra.Command{
		Use:    SuperviseName + " GRACE COMMAND [ARGUMENT]...",
		Hidden: true,
		Short:  "Run a command for an agent, and end all that it started when told to end",
		Args:   cli.ArgumentCount(2, -1, "GRACE and COMMAND"),
		RunE:   func(*cobra.Command, []string) error { return nil },
	}
}

// Supervise runs the verb and returns the exit code.
func Supervise(args []string, stderr io.Writer) int {
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

// EncloseName is the hidden verb that the agent starts around each command of a debug session: see process.RunEnclosed.
// package main runs it before any setup; the command here only describes it.
const EncloseName = "enclose"

func EncloseVerb(*cli.App) *cobra.Command {
	return &cobra.Command{
		Use:    EncloseName + " HOW GRACE COMMAND [ARGUMENT]...",
		Hidden: true,
		Short:  "Run a command of a debug session, and kill all that it started when it ends",
		Args:   cli.ArgumentCount(3, -1, "HOW, GRACE and COMMAND"),
		RunE:   func(*cobra.Command, []string) error { return nil },
	}
}

// Enclose runs the verb and returns the exit code.
func Enclose(args []string, stderr io.Writer) int {
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
