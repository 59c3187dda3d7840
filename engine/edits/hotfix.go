package edits

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
	"github.com/sluice-cd/sluice/releases"
)

// Hotfix opens a lane for a release into a channel, past its upstreams, soak and windows (R17).
type Hotfix struct {
	Release, Channel string
	Reason           string
	Lasts            time.Duration // until the lane ends
	Fixes            []string      // what every later promotion must list; none: what the release lists
	OverrideFreeze   bool
}

func hotfixFile(channel, version string) string {
	return path.Join(channels.Dir, channel, "hotfixes", version+".yaml")
}

func (h Hotfix) Message() (subject, body string) {
	return fmt.Sprintf("hotfix %s to %s", h.Release, h.Channel), h.Reason
}

func (h Hotfix) Edit(s *Releases, _ Person, now time.Time) (Edit, error) {
	c, err := s.Channel(h.Channel)
	if err != nil {
		return Edit{}, err
	}
	r, err := s.Release(h.Release)
	if err != nil {
		return Edit{}, err
	}
	file := hotfixFile(h.Channel, h.Release)
	if exists(s.Files, file) {
		return Edit{}, Fail(fmt.Errorf("%s has a hotfix for %s already", h.Channel, h.Release),
			"sluice why %s shows its progress; to change it, edit %s", h.Channel, file)
	}
	if e := c.Effective; e != nil {
		if head, err := releases.ParseVersion(e.Release); err == nil && !head.Less(r.Version) {
			return Edit{}, Fail(fmt.Errorf("%s runs %s, and a hotfix only goes up", h.Channel, e.Release),
				"cut it under a greater version than %s", e.Release)
		}
	}
	if len(h.Fixes) == 0 {
		h.Fixes = r.Fixes
	}
	fields := edit.Fields{{Key: "digest", Value: string(r.Digest)}, {Key: "reason", Value: h.Reason},
		{Key: "expiry", Value: now.UTC().Add(h.Lasts).Truncate(time.Second)}}
	if len(h.Fixes) > 0 {
		fields = append(fields, edit.Field{Key: "fixes", Value: h.Fixes})
	}
	if h.OverrideFreeze {
		fields = append(fields, edit.Field{Key: "overrideFreeze", Value: true})
	}
	data, err := edit.Format(fields)
	next := fmt.Sprintf("the engine promotes it, past upstreams, soak and windows; sluice why %s shows its progress",
		h.Channel)
	if len(h.Fixes) > 0 {
		next += fmt.Sprintf(". Every later release must list %s in fixes, until sluice hotfix %s --to %s --close WHY",
			strings.Join(h.Fixes, ", "), h.Release, h.Channel)
	}
	return Edit{Files: singleFile(file, data), Next: next}, err
}

// CloseHotfix ends a hotfix's lane, and its demands on later releases.
type CloseHotfix struct{ Release, Channel, Reason string }

func (h CloseHotfix) Message() (subject, body string) {
	return fmt.Sprintf("close the hotfix %s to %s", h.Release, h.Channel), h.Reason
}

func (h CloseHotfix) Edit(s *Releases, _ Person, _ time.Time) (Edit, error) {
	c, err := s.Channel(h.Channel)
	if err != nil {
		return Edit{}, err
	}
	i := slices.IndexFunc(c.Hotfixes, func(f channels.Hotfix) bool { return f.Release == h.Release })
	switch {
	case i < 0:
		return Edit{}, Fail(fmt.Errorf("%s has no hotfix for %s", h.Channel, h.Release),
			"its hotfixes are in channels/%s/hotfixes", h.Channel)
	case c.Hotfixes[i].Closed != "":
		return Edit{}, nil
	}
	file := c.Hotfixes[i].File
	text, err := fs.ReadFile(s.Files, file)
	if err != nil {
		return Edit{}, err
	}
	edited, err := edit.Set(text, []string{"closed"}, h.Reason)
	if err != nil {
		return Edit{}, Fail(err, "edit %s by hand", file)
	}
	return Edit{Files: singleFile(file, edited),
		Next: "later releases need not list its fixes; sluice why " + h.Channel}, nil
}
