package edits

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/channels"
)

// Quarantine keeps a release out of channels.
type Quarantine struct {
	Release  string
	Channels []string // none: all
	Reason   string
}

func quarantineFile(version string) string { return path.Join(channels.QuarantineDir, version+".yaml") }

func (q Quarantine) Message() (subject, body string) {
	subject = "quarantine " + q.Release
	if len(q.Channels) > 0 {
		subject += " in " + strings.Join(q.Channels, ", ")
	}
	return subject, q.Reason
}

// Edit writes the quarantine, even of a release with faults. It never narrows one that is there.
func (q Quarantine) Edit(s *Releases, by Person, _ time.Time) (Edit, error) {
	for _, name := range q.Channels {
		if _, err := s.Channel(name); err != nil {
			return Edit{}, err
		}
	}
	r := s.Desired.Releases[q.Release]
	if r == nil {
		_, err := s.Release(q.Release)
		return Edit{}, err
	}
	switch is := s.quarantineOf(q.Release); {
	case is == nil || len(q.Channels) == 0:
	case len(is.Channels) == 0:
		subject, _ := q.Message()
		return Edit{Summary: fmt.Sprintf("%s: all channels are kept from it already: %s; sluice rollback CHANNEL "+
			"--reason WHY takes one back that runs it", subject, is.Why())}, nil
	default:
		before := is.Why() + " (" + strings.Join(is.Channels, ", ") + ")"
		q.Channels = slices.Compact(slices.Sorted(slices.Values(slices.Concat(is.Channels, q.Channels))))
		if slices.Equal(q.Channels, slices.Sorted(slices.Values(is.Channels))) && q.Reason == is.Reason {
			return Edit{}, nil
		}
		q.Reason += "; before: " + before
	}
	var running []string
	for _, name := range s.Desired.Order {
		if e := s.Desired.Channels[name].Effective; e != nil && e.Release == q.Release &&
			(len(q.Channels) == 0 || slices.Contains(q.Channels, name)) {
			running = append(running, name)
		}
	}
	next := "no channel takes it; lift it with sluice quarantine " + q.Release + " --lift"
	if len(q.Channels) > 0 {
		next = fmt.Sprintf("not taken by %s; lift it with sluice quarantine %s --lift", strings.Join(q.Channels, ", "),
			q.Release)
	}
	if len(running) > 0 {
		next = fmt.Sprintf("%s runs it: where onFailure is rollback it rolls back by itself; see sluice status",
			strings.Join(running, ", "))
	}
	data, err := yaml.Marshal(channels.Quarantine{Digest: r.Digest, Channels: q.Channels, Reason: q.Reason,
		By: by.Name})
	return Edit{Files: singleFile(quarantineFile(q.Release), data), Next: next}, err
}

// quarantineOf returns the quarantine of a release as it is now; nil: there is none.
func (s *Releases) quarantineOf(version string) *channels.Quarantine {
	r := s.Desired.Releases[version]
	for i, q := range s.Desired.Quarantine {
		if q.Release == version && (r == nil || q.Digest == "" || q.Digest == r.Digest) {
			return &s.Desired.Quarantine[i]
		}
	}
	return nil
}

// LiftQuarantine ends the quarantine of a release.
type LiftQuarantine struct {
	Release  string
	Channels []string // where; none: everywhere
	Reason   string
}

func (l LiftQuarantine) Message() (subject, body string) {
	subject = "lift the quarantine of " + l.Release
	if len(l.Channels) > 0 {
		subject += " in " + strings.Join(l.Channels, ", ")
	}
	return subject, l.Reason
}

func (l LiftQuarantine) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	file := quarantineFile(l.Release)
	if !exists(s.Files, file) {
		return Edit{}, Fail(fmt.Errorf("it is not quarantined: there is no %s", file), "sluice status shows what holds")
	}
	data, err := l.remaining(s)
	return Edit{Files: singleFile(file, data), Next: "it is a candidate again where it was accepted"}, err
}

// remaining returns the quarantine of the other channels; nil: there are none.
func (l LiftQuarantine) remaining(s *Releases) ([]byte, error) {
	if len(l.Channels) == 0 {
		return nil, nil
	}
	is := s.quarantineOf(l.Release)
	if is == nil {
		return nil, Fail(fmt.Errorf("%s does not count: it has faults, or is of other bytes", quarantineFile(l.Release)),
			"sluice validate; to remove it: sluice quarantine %s --lift", l.Release)
	}
	if len(is.Channels) == 0 {
		return nil, Fail(fmt.Errorf("all channels are kept from it, and not single ones: %s", is.Why()),
			"sluice quarantine %s --lift ends that in all; then quarantine it in some, by --channel", l.Release)
	}
	for _, name := range l.Channels {
		if _, err := s.Channel(name); err != nil {
			return nil, err
		}
		if !slices.Contains(is.Channels, name) {
			return nil, Fail(fmt.Errorf("it is not quarantined in %s, but in %s", name,
				strings.Join(is.Channels, ", ")), "sluice why %s shows where it is", l.Release)
		}
	}
	left := *is
	left.FailedIn = "" // the engine's to write
	left.Channels = slices.DeleteFunc(slices.Clone(is.Channels),
		func(name string) bool { return slices.Contains(l.Channels, name) })
	if len(left.Channels) == 0 {
		return nil, nil
	}
	return yaml.Marshal(left)
}
