package agentcmd

import (
	"fmt"
	"path"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/internal/words"
)

func VersionVerb(a *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cli.ArgumentCount(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			v := thisVersion()
			return a.PrintResult(v, func() { a.Stdout.PrintLine("%s", v.String()) })
		},
	}
}

type versionInfo struct {
	Program  string    `json:"program"`
	Version  string    `json:"version"`
	Commit   string    `json:"commit,omitempty"`
	Time     time.Time `json:"time,omitzero"` // of the commit
	Dirty    bool      `json:"dirty"`         // built with changes that are not committed
	Go       string    `json:"go"`
	Platform string    `json:"platform"`
}

func (v versionInfo) String() string {
	built := "unknown commit"
	if v.Commit != "" {
		built = "commit " + cli.ShortID(v.Commit)
	}
	if !v.Time.IsZero() {
		built += " of " + words.FormatTime(v.Time)
	}
	if v.Dirty {
		built += " with changes that are not committed"
	}
	return fmt.Sprintf("%s %s, %s, %s, %s", v.Program, v.Version, built, v.Go, v.Platform)
}

// smallProgram is the command that has a cell's verbs alone.
const smallProgram = "sluice-agent"

// thisVersion returns what the Go toolchain stamped into the binary.
func thisVersion() versionInfo {
	v := versionInfo{Program: "sluice", Version: "devel", Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if path.Base(info.Path) == smallProgram {
		v.Program = smallProgram
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Time, _ = time.Parse(time.RFC3339, s.Value) // zero, which is not shown, for another form
		case "vcs.modified":
			v.Dirty = s.Value == "true"
		}
	}
	return v
}
