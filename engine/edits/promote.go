package edits

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/releases"
)

// Promote requests a release for a channel. The engine decides on the request (R1).
type Promote struct {
	Release, Channel string
	Reason           string // for the commit
}

func (p Promote) Message() (subject, body string) {
	return fmt.Sprintf("promote %s to %s", p.Release, p.Channel), p.Reason
}

// Edit changes only release: in head.yaml (R1).
func (p Promote) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	subject, _ := p.Message()
	c, err := s.Channel(p.Channel)
	if err != nil {
		return Edit{}, err
	}
	r, err := s.Release(p.Release)
	if err != nil {
		return Edit{}, err
	}
	if c.Request != nil && c.Request.Release == p.Release ||
		c.Request == nil && c.Effective != nil && c.Effective.Release == p.Release {
		return Edit{Summary: subject + ": it is already the head, or requested; where it failed, sluice cell retry CELL " +
			"tries it again"}, nil
	}
	files, err := requestHead(s.Files, p.Channel, p.Release)
	next := "the engine answers; sluice why " + p.Channel + " shows what it waits for"
	if isPassed(c, r.Version) {
		next = fmt.Sprintf("it is below %s, which %s runs: the engine takes this for a rollback, and holds the channel; "+
			"sluice promote %s --cancel takes it back as long as it is not answered", c.Effective.Release, p.Channel,
			p.Channel)
	}
	return Edit{Files: files, Summary: "ask to " + subject, Next: next}, err
}

// CancelRequest takes back a request that the engine has not answered: head.yaml becomes what the engine wrote last.
type CancelRequest struct {
	Channel string
	Release string // that is meant; empty: whatever is requested
	Reason  string
}

func (c CancelRequest) Message() (subject, body string) {
	return "take back the request for " + c.Channel, c.Reason
}

func (c CancelRequest) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	at, err := s.Channel(c.Channel)
	if err != nil {
		return Edit{}, err
	}
	if at.Request == nil {
		return Edit{}, Fail(fmt.Errorf("nothing is requested for %s, or the engine has answered it", c.Channel),
			"sluice log %s shows what happened", c.Channel)
	}
	if c.Release != "" && c.Release != at.Request.Release && at.Request.Fault == "" {
		return Edit{}, Fail(fmt.Errorf("%s asked for %s there, and not for %s", at.Request.By,
			at.Request.Release, c.Release), "sluice promote %s --cancel takes that back", c.Channel)
	}
	next := "the channel goes on by itself; sluice why " + c.Channel
	return Edit{Files: singleFile(path.Join(channels.Dir, c.Channel, "head.yaml"), at.HeadFile()), Next: next}, nil
}

var releaseLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?m)^release:.*$`) })

// requestHead writes a request for a release into a channel's head.yaml.
func requestHead(files fs.FS, channel, version string) (map[string][]byte, error) {
	file := path.Join(channels.Dir, channel, "head.yaml")
	old, err := fs.ReadFile(files, file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	line := "release: " + version
	text := releaseLine().ReplaceAllLiteralString(string(old), line)
	if !releaseLine().MatchString(text) {
		text = line + "\n" + text
	}
	return singleFile(file, []byte(text)), nil
}

// Rollback requests an earlier release for a channel. The engine decides on the request.
type Rollback struct {
	Channel string
	To      string // empty: the newest earlier head that is not quarantined
	Reason  string
}

func (r Rollback) Message() (subject, body string) {
	subject = "roll back " + r.Channel
	if r.To != "" {
		subject += " to " + r.To
	}
	return subject, r.Reason
}

// Edit changes release: in head.yaml.
func (r Rollback) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	c, err := s.Channel(r.Channel)
	if err != nil {
		return Edit{}, err
	}
	target, err := r.targetRelease(s, c)
	if err != nil {
		return Edit{}, err
	}
	files, err := requestHead(s.Files, r.Channel, target)
	return Edit{Files: files, Next: fmt.Sprintf("the engine moves it, and holds the channel; when all is well: "+
		"sluice hold %s --lift", r.Channel)}, err
}

// targetRelease validates the requested release, or finds the newest earlier one.
func (r Rollback) targetRelease(s *Releases, c *plan.Channel) (string, error) {
	e := c.Effective
	if e == nil {
		return "", Fail(fmt.Errorf("%s has no release yet", c.Name), "there is nothing to go back from")
	}
	head, err := releases.ParseVersion(e.Release)
	if err != nil {
		return "", err
	}
	if r.To != "" {
		to, err := s.Release(r.To)
		if err != nil {
			return "", err
		}
		if !to.Version.Less(head) {
			return "", Fail(fmt.Errorf("%s runs %s, and %s is not an earlier release", c.Name, e.Release, r.To),
				"to go up: sluice promote %s %s", c.Name, r.To)
		}
		return r.To, nil
	}
	for _, h := range slices.Backward(c.History) {
		before, err := s.Release(h.Release)
		if err != nil || !before.Version.Less(head) || s.isQuarantined(c.Name, h.Release, h.Digest) {
			continue
		}
		return h.Release, nil
	}
	return "", Fail(fmt.Errorf("%s never ran an earlier release that it could go back to", c.Name),
		"name one: --to V (sluice release list)")
}
