package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/releases/export"
)

// OwnerFile is the file of a state folder that holds the owner's decisions. The running agent only reads it.
const OwnerFile = "owner.yaml"

const (
	maxOwnerFile      = 512 << 10 // bytes
	ownerPollInterval = time.Second
)

// ownerDoc is the content of owner.yaml.
type ownerDoc struct {
	APIVersion string            `yaml:"apiVersion" required:"true" enum:"sluice/v1"`
	Kind       string            `yaml:"kind" required:"true" enum:"Owner"`
	Paused     string            `yaml:"paused,omitempty" doc:"why nothing begins"`
	Pin        string            `yaml:"pin,omitempty" doc:"the only release that may begin"`
	PinDigest  releases.Digest   `yaml:"pinDigest,omitempty" doc:"of the pinned release; without it, the pin is by name alone"`
	Approval   bool              `yaml:"approval,omitempty" doc:"only approved releases may begin"`
	Approved   []releases.Digest `yaml:"approved,omitempty" doc:"newest last"`
	Windows    []window.Window   `yaml:"windows,omitempty" doc:"nothing begins outside all of them"`
	Features   []string          `yaml:"features,omitempty" doc:"held features: off here, whatever is announced"`
	Reasons    map[string]string `yaml:"reasons,omitempty" doc:"why, by held feature"`

	Maintenance *ownerMaintenance `yaml:"maintenance,omitempty" doc:"operations are refused, as for an update"`
	Export      *ownerExport      `yaml:"export,omitempty" doc:"what may leave the cell beside its reports"`
}

type ownerExport struct {
	Off     bool            `yaml:"off,omitempty" doc:"nothing leaves, and what waits is removed"`
	Hold    time.Duration   `yaml:"hold,omitempty" doc:"how long a file waits before it leaves; default 15m"`
	Metrics []export.Metric `yaml:"metrics,omitempty"`
	Events  []export.Event  `yaml:"events,omitempty"`
}

func (e *ownerExport) consent() *cells.ExportConsent {
	if e == nil {
		return nil
	}
	return &cells.ExportConsent{Off: e.Off, Hold: e.Hold, Allowed: export.List{Metrics: e.Metrics, Events: e.Events}}
}

func newOwnerExport(c *cells.ExportConsent) *ownerExport {
	if c == nil {
		return nil
	}
	return &ownerExport{c.Off, c.Hold, c.Allowed.Metrics, c.Allowed.Events}
}

type ownerMaintenance struct {
	Since  time.Time `yaml:"since" required:"true"`
	Until  time.Time `yaml:"until" required:"true"`
	Reason string    `yaml:"reason,omitempty"`
}

// OwnerError lists what is wrong with owner.yaml, by file and line.
type OwnerError struct{ Faults []releases.Fault }

func (e *OwnerError) Error() string {
	text := e.Faults[0].String()
	if n := len(e.Faults) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}

// LoadOwner reads the owner's decisions from a state folder; nil: there are none. An *OwnerError says that the file is
// invalid.
func LoadOwner(stateDir string) (*cells.Owner, error) {
	name := filepath.Join(stateDir, OwnerFile)
	f, err := os.Open(name) //nolint:gosec // below the state folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the owner's decisions: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxOwnerFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the owner's decisions: %w", err)
	}
	if len(text) > maxOwnerFile {
		return nil, &OwnerError{[]releases.Fault{{File: name, Code: manifest.TooLarge,
			Message: fmt.Sprintf("is larger than %d bytes", maxOwnerFile)}}}
	}
	return parseOwner(name, text)
}

func parseOwner(name string, text []byte) (*cells.Owner, error) {
	doc, faults := manifest.Decode[ownerDoc](name, text)
	d := &doc.Value
	faults = append(faults, doc.RefuseEmpty("zone")...)
	if _, err := releases.ParseVersion(d.Pin); d.Pin != "" && err != nil {
		faults = append(faults, doc.Fault(manifest.WrongValue, "pin", "%v", err))
	}
	if _, err := releases.ParseDigest(string(d.PinDigest)); d.PinDigest != "" && err != nil {
		faults = append(faults, doc.Fault(manifest.WrongValue, "pinDigest", "%v", err))
	}
	for i, digest := range d.Approved {
		if _, err := releases.ParseDigest(string(digest)); err != nil {
			faults = append(faults, doc.Fault(manifest.WrongValue, fmt.Sprintf("approved[%d]", i), "%v", err))
		}
	}
	for i := range d.Windows {
		for _, wrong := range d.Windows[i].Compile() {
			faults = append(faults, doc.Fault(manifest.WrongValue,
				fmt.Sprintf("windows[%d].%s", i, wrong.Field), "%s", wrong.Reason))
		}
	}
	if d.Export != nil {
		for _, wrong := range d.Export.consent().Allowed.Check() {
			faults = append(faults, doc.Fault(manifest.WrongValue, "export."+wrong.At, "%s", wrong.Reason))
		}
	}
	o := &cells.Owner{Paused: d.Paused, Pin: d.Pin, PinDigest: d.PinDigest, Approval: d.Approval,
		Approved: d.Approved, Windows: d.Windows,
		Features: slices.Sorted(slices.Values(d.Features)), Reasons: d.Reasons,
		Maintenance: (*maintenance.Owner)(d.Maintenance), Export: d.Export.consent()}
	if err := o.Validate(); err != nil && len(faults) == 0 { // the bounds
		faults = append(faults, releases.Fault{File: name, Line: 1, Code: manifest.WrongValue, Message: err.Error()})
	}
	if len(faults) > 0 {
		return nil, &OwnerError{faults}
	}
	return o, nil
}

// ChangeOwner changes the owner's decisions, all of them or nothing, and returns them once they are durable. Concurrent
// calls wait for each other. The agent notices within 2 seconds.
func ChangeOwner(stateDir string, change func(*cells.Owner) error) (*cells.Owner, error) {
	//nolint:gosec // below the state folder
	lock, err := os.OpenFile(filepath.Join(stateDir, "owner.lock"), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW,
		0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }() // releases the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	o, err := LoadOwner(stateDir)
	if err != nil {
		return nil, err
	}
	if o == nil {
		o = &cells.Owner{}
	}
	if err := change(o); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	text, err := EncodeOwner(o)
	if err != nil {
		return nil, err
	}
	if len(text) > maxOwnerFile {
		return nil, fmt.Errorf("write the owner's decisions: they would have more than %d bytes", maxOwnerFile)
	}
	name := filepath.Join(stateDir, OwnerFile)
	if _, err := parseOwner(name, text); err != nil { // what is written must be readable
		return nil, err
	}
	// The agent may run as another user than the owner, and the file holds no secret.
	if err := disk.ReplaceFileMode(name, 0o644, text); err != nil {
		return nil, fmt.Errorf("write the owner's decisions: %w", err)
	}
	return o, nil
}

// EncodeOwner returns an owner's decisions as owner.yaml has them.
func EncodeOwner(o *cells.Owner) ([]byte, error) {
	text, err := yaml.Marshal(ownerDoc{"sluice/v1", "Owner", o.Paused, o.Pin, o.PinDigest, o.Approval, o.Approved,
		o.Windows, o.Features, o.Reasons, (*ownerMaintenance)(o.Maintenance), newOwnerExport(o.Export)})
	if err != nil {
		return nil, fmt.Errorf("write the owner's decisions: %w", err)
	}
	return text, nil
}

// ownerDecisions holds the content of owner.yaml, or why the file is invalid.
type ownerDecisions struct {
	decisions *cells.Owner // nil: none
	invalid   string       // empty: the file is valid
}

func (w ownerDecisions) features() []string {
	if w.decisions == nil {
		return nil
	}
	return w.decisions.Features
}

func readOwnerDecisions(dir string) ownerDecisions {
	o, err := LoadOwner(dir)
	if err != nil {
		return ownerDecisions{invalid: words.Clip(err.Error(), maxReason)}
	}
	if o != nil && o.Paused == "" && o.Pin == "" && !o.Approval && len(o.Approved) == 0 && len(o.Windows) == 0 &&
		len(o.Features) == 0 && o.Maintenance == nil && o.Export == nil {
		o = nil
	}
	return ownerDecisions{decisions: o}
}

// followOwner applies owner.yaml if it changed since it was applied last. The loop does so before each offer and
// each step: nothing begins against a decision that was made before.
func (l *loop) followOwner() {
	now := l.agent.statOwnerFile()
	if sameFileInfo(l.ownerFile, now) {
		return
	}
	l.ownerFile = now
	l.applyOwnerDecisions(readOwnerDecisions(l.agent.options.StateDir))
}

// watchOwnerFile wakes the loop for every change of owner.yaml since seen, and for the owner's requests to retry, until
// ctx ends.
func (a *Agent) watchOwnerFile(
	ctx context.Context, seen os.FileInfo, changed, retries chan<- struct{},
) {
	tick := time.NewTicker(ownerPollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a.resetClock()
		a.passOnRetry(ctx, retries)
		now := a.statOwnerFile()
		if sameFileInfo(seen, now) {
			continue
		}
		seen = now
		select {
		case changed <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

// resetClock has the next receipt set the time, if the owner asked for that.
func (a *Agent) resetClock() {
	switch done, err := a.clock.HandleReset(); {
	case err != nil:
		a.options.Log.Error().Err(err).Msg("the time was not reset; the agent retries")
	case done:
		a.options.Log.Info().Msg("the owner had the time reset: the next receipt sets it")
	}
}

// statOwnerFile returns the file's metadata, by which changes are noticed; nil: there is no file, or none that can be
// read.
func (a *Agent) statOwnerFile() os.FileInfo {
	info, err := os.Stat(filepath.Join(a.options.StateDir, OwnerFile))
	if err != nil {
		return nil
	}
	return info
}

func sameFileInfo(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size() && a.Mode() == b.Mode()
}
