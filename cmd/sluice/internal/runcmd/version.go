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
		Args:  cli.ArgumentCount(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			v := thisVersion()
			return a.PrintResult(v,
				func() { a.Stdout.PrintLine("sluice %s (%s, %s)", v.Version, cli.OrDash(cli.ShortID(v.Commit)), v.Go) })
		},
	}
}

type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"` // +dirty: built with changes that are not committed
	Go      string `json:"go"`
}

// thisVersion returns what the Go toolchain stamped into the binary.
func thisVersion() versionInfo {
	v := versionInfo{Version: "devel", Go: runtime.Version()}
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
