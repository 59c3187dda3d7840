package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/debugger"
	"github.com/sluice-cd/sluice/cells/agent/exporter"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/cells/infrastructure"
	"github.com/sluice-cd/sluice/cells/selfupdate"
	"github.com/sluice-cd/sluice/releases"
)

// Options say which cell this is, and what the agent works with. Fields without a default are required.
type Options struct {
	Cell     string          // default: that of Join, or the one that StateDir belongs to
	Join     *identity.Token // token to register with; nil: the cell is registered, or Server is plain
	Server   string          // http://127.0.0.1:PORT or unix:///PATH: plain; https://HOST:PORT or empty: TLS by key
	StateDir string          // the agent's own folder: identity, journal, outbox, releases; created if needed
	Target   cells.Target    // used by one call at a time

	Values         map[string]any    // of parameters that the cell owns; nil: none
	KeyFile        string            // with age keys, for files of releases that SOPS encrypted; empty: none
	Infrastructure int               // number of the cell's infrastructure update, if nothing reads it; 0: none
	Version        string            // of the agent, as reported
	FlagsListen    string            // address for flags: 127.0.0.1:PORT, [::1]:PORT or unix:///PATH; empty: none
	FlagsOrigins   []string          // origins of web pages that may ask for flags: https://HOST; none: no page may
	Nodes          flagserver.Sharer // takes the flags to the cell's node parts; nil: there are none
	NodeOperations NodeOperations    // where node parts grant operations; nil: they grant none
	ImagesListen   string            // address for pulls of images, as FlagsListen; empty: none
	NodePulls      *NodePulls        // where node parts pull; nil: nowhere
	SelfUpdate     SelfUpdate        // replaces the agent as releases say; nil: it stays as it is
	ImagesRate     int64             // bytes a second of all pulls; 0: no limit
	ExportScrape   []string          // targets on this machine that are scraped: http://127.0.0.1:PORT/PATH
	Log            zerolog.Logger    // the zero value is silent
	Render         []string          // command of the render child; default: this program with the argument "render"
	RenderLimits   render.Limits
	// Command of the program whose body is process.RunEnclosed, around what debug sessions run; empty: they run nothing
	Enclose []string
	// PodLogs and PodShells read logs of the target's pods and run shells in them, for debug sessions; nil: it has none
	PodLogs   debugger.PodLogs
	PodShells debugger.PodShells

	PollWait       time.Duration // how long one long-poll may wait; default 30s
	ReportEvery    time.Duration // heartbeat, jittered by a tenth; default 10s
	HealthTimeout  time.Duration // for what was applied to become healthy; default 5m
	HealthInterval time.Duration // between health checks while health holds; default 10s
	HealthyFor     time.Duration // health must hold so long before rollback ends; default 10s; negative: not at all
	HealInterval   time.Duration // between checks for drift; default 30s

	InfrastructureReader infrastructure.Reader // of the actual infrastructure; nil: the number is fixed
	InfrastructureEvery  time.Duration         // between its reads; default 5s

	TrustRoot    releases.Digest // SHA-256 of the signers' root; empty: the token's, or as pinned
	TrustChannel string          // whose releases the owner lets a cell with a root take; empty: that of the first one

	MaxContent int64 // bytes of a release, on the wire and unpacked; default 64 MiB

	// Tests replace the machine's clocks and the network.
	machine   clock.Machine
	transport func(*http.Transport) http.RoundTripper
}

// SelfUpdate replaces the agent by the one that a release names: see package selfupdate.
type SelfUpdate interface {
	Run(ctx context.Context)
	// Reported says that the control plane took a report.
	Reported()
	// Update returns nil once the agent is the one that the release names.
	Update(ctx context.Context, release selfupdate.Release) error
}

// withDefaults validates o and fills in defaults. The error joins all faults.
func (o Options) withDefaults() (Options, error) {
	var faults []error
	for name, missing := range map[string]bool{
		"cell": o.Cell == "", "state folder": o.StateDir == "", "target": o.Target == nil,
	} {
		if missing {
			faults = append(faults, fmt.Errorf("agent: no %s is given", name))
		}
	}
	if _, err := releases.ParseDigest(string(o.TrustRoot)); o.TrustRoot != "" && err != nil {
		faults = append(faults, fmt.Errorf("agent: the root of trust: %w", err))
	}
	if o.Cell != "" && !cells.ValidName(o.Cell) {
		faults = append(faults, fmt.Errorf("agent: %q can't be a cell's name", o.Cell))
	}
	if _, err := flagserver.ParseAddress(o.FlagsListen); o.FlagsListen != "" && err != nil {
		faults = append(faults, fmt.Errorf("agent: flags: %w", err))
	}
	if _, err := flagserver.ParseAddress(o.ImagesListen); o.ImagesListen != "" && err != nil {
		faults = append(faults, fmt.Errorf("agent: images: %w", err))
	}
	for _, target := range o.ExportScrape {
		if err := exporter.CheckTarget(target); err != nil {
			faults = append(faults, fmt.Errorf("agent: exports: %w", err))
		}
	}
	if len(o.Render) == 0 {
		self, err := os.Executable()
		if err != nil {
			faults = append(faults, fmt.Errorf("agent: find this program for rendering: %w", err))
		}
		o.Render = []string{self, "render"}
	}
	o.PollWait = cmp.Or(o.PollWait, 30*time.Second)
	o.ReportEvery = cmp.Or(o.ReportEvery, 10*time.Second)
	o.HealthTimeout = cmp.Or(o.HealthTimeout, 5*time.Minute)
	o.HealthInterval = cmp.Or(o.HealthInterval, 10*time.Second)
	o.HealthyFor = max(0, cmp.Or(o.HealthyFor, 10*time.Second))
	o.HealInterval = cmp.Or(o.HealInterval, 30*time.Second)
	o.InfrastructureEvery = cmp.Or(o.InfrastructureEvery, 5*time.Second)
	o.MaxContent = cmp.Or(o.MaxContent, 64<<20)
	return o, errors.Join(faults...)
}

// targetChanges returns where the target says that something changed; nil: it does not notice by itself.
func (o *Options) targetChanges() <-chan struct{} {
	if w, ok := o.Target.(cells.Watcher); ok {
		return w.Changed()
	}
	return nil
}
