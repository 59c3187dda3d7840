package runcmd

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
)

func VersionVerb(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cli.Arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			v := thisVersion()
			return a.Show(v, func() { a.Stdout.Line("sluice %s (%s, %s)", v.Version, cli.OrDash(cli.Short(v.Commit)), v.Go) })
		},
	}
}

type versions struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"` // +dirty: built with changes that are not committed
	Go      string `json:"go"`
}

// thisVersion reads what the Go toolchain stamped into the binary.
func thisVersion() versions {
	v := versions{Version: "devel", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			v.Commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			v.Commit += "+dirty"
		}
	}
	return v
}
