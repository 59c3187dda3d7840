package install

import (
	_ "embed"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"
	"text/template"

	"github.com/sluice-cd/sluice/cells/agent/imagerelay"
)

//go:embed host.sh
var hostScript string

// Host is an agent on a machine, with a folder as its target.
type Host struct {
	Cell    string
	Token   string // empty: cells have no keys, and Server is set
	Server  string // of a control plane for its own machine alone
	Systemd bool   // as a service; else the script becomes the agent

	Program, User, Dir, State, Hook, Health string
	Registries                              []string // whose images containerd pulls through the agent
	ImagesListen                            string   // where
	Infrastructure                          string   // of the agent's flag; empty: none
	SelfUpdate                              bool     // releases may replace the agent, and a guard watches
}

var userName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`) })

// Check returns what is wrong with what people chose.
func (h *Host) Check() error {
	for flag, text := range map[string]string{"program": h.Program, "dir": h.Dir, "state": h.State, "hook": h.Hook,
		"health": h.Health, "infrastructure": h.Infrastructure} {
		if strings.ContainsAny(text, "\n\r\x00") {
			return fmt.Errorf("--%s must be one line", flag)
		}
	}
	if h.Systemd && (!path.IsAbs(h.Dir) || !path.IsAbs(h.State)) {
		return errors.New("--dir and --state of a service must begin with /")
	}
	if !userName().MatchString(h.User) {
		return fmt.Errorf("--user %.80q can't be a user", h.User)
	}
	if len(h.Registries) > 0 && !h.Systemd {
		return errors.New("--images writes files of containerd, which takes --service systemd")
	}
	for _, name := range h.Registries {
		if !imagerelay.ValidRegistry(name) {
			return fmt.Errorf("--images %.80q is no host of a registry", name)
		}
	}
	return nil
}

// JoinFile returns where a service has its token.
func (h Host) JoinFile() string { return "/etc/sluice/" + h.Cell + ".join" }

// Unit returns the name of the service.
func (h Host) Unit() string { return "sluice-agent-" + h.Cell + ".service" }

// Arguments returns the agent's command line.
func (h Host) Arguments() []string {
	var all []string
	switch {
	case h.Token == "":
		all = append(all, "--cell", h.Cell, "--server", h.Server)
	case h.Systemd:
		all = append(all, "--join", "@"+h.JoinFile())
	}
	all = append(all, "--dir", h.Dir, "--state", h.State)
	for _, more := range [][2]string{{"--hook", h.Hook}, {"--health", h.Health},
		{"--infrastructure", h.Infrastructure}} {
		if more[1] != "" {
			all = append(all, more[0], more[1])
		}
	}
	if len(h.Registries) > 0 {
		all = append(all, "--images-listen", h.ImagesListen)
	}
	if h.SelfUpdate {
		all = append(all, "--self-update")
	}
	return all
}

// Script returns a script for sh that installs the agent and starts it.
func (h Host) Script() (string, error) {
	return execute("host", hostScript, template.FuncMap{"quote": Quote, "systemd": quoteForSystemd,
		"hosts": imagerelay.HostsFile, "mark": func() string { return imagerelay.HostsMark }}, h)
}

// Quote returns a word as a shell takes it, whatever is in it.
func Quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// quoteForSystemd returns a word of a command line in a unit.
func quoteForSystemd(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$").Replace(word) + `"`
}
