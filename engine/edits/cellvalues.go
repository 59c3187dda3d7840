package edits

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// parseValues returns what the texts of NAME=VALUE mean for a cell of a channel: for a parameter of type string the
// text as it is, else YAML. It refuses a value that no release takes which the channel runs or may get, and warns of a
// name that is no parameter of any: a release to come may have it.
func (s *Releases) parseValues(cell, channel string, texts map[string]string) (values map[string]any,
	warnings []releases.Fault, err error) {
	values = map[string]any{}
	ahead := s.releasesAhead(channel)
	for _, name := range sortedKeys(texts) {
		value, why, known, err := parseValue(ahead, name, texts[name])
		switch {
		case err != nil:
			return nil, nil, Fail(fmt.Errorf("--value %s: %q is no YAML", name, texts[name]), "quote it, or edit %s",
				path.Join(cells.Dir, cell, "cell.yaml"))
		case why != "":
			return nil, nil, Fail(fmt.Errorf("--value %s", why), "sluice release show %s lists the parameters",
				ahead[0].Version)
		case !known && len(ahead) > 0:
			warnings = append(warnings, releases.Fault{File: path.Join(cells.Dir, cell, "cell.yaml"),
				Code: manifest.UnknownReference, Warning: true,
				Message: fmt.Sprintf("%s is no parameter of %s or a later release: until one has it, the cell is granted "+
					"nothing new%s", name, ahead[len(ahead)-1].Version, words.DidYouMean(name, parameterNames(ahead)))})
		}
		values[name] = value
	}
	return values, warnings, nil
}

// parseValue returns what a text means for the newest release that takes it, why no release does, and whether any has
// such a parameter.
func parseValue(ahead []*plan.Release, name, text string) (value any, why string, known bool, err error) {
	if err = yaml.Unmarshal([]byte(text), &value); err != nil {
		return nil, "", false, err
	}
	read := value
	for _, r := range ahead {
		p, there := r.Parameters[name]
		if !there {
			continue
		}
		meant := read
		if _, is := read.(string); p.Type == "string" && !is {
			meant = text // 0123 and true are texts, too
		}
		i := slices.IndexFunc(releases.CheckValues(&r.Release, map[string]any{name: meant}),
			func(wrong string) bool { return strings.HasPrefix(wrong, name+" ") })
		if i < 0 {
			return meant, "", true, nil
		}
		if !known {
			why = releases.CheckValues(&r.Release, map[string]any{name: meant})[i]
		}
		known = true
	}
	return read, why, known, nil
}

// releasesAhead returns the releases without faults that a channel runs or may get, newest first.
func (s *Releases) releasesAhead(channel string) (ahead []*plan.Release) {
	c := s.Desired.Channels[channel]
	for _, r := range slices.Backward(s.Desired.Versions) {
		if c != nil && isPassed(c, r.Version) {
			break
		}
		if r = s.Whole(r); len(Fatal(r.Faults)) == 0 {
			ahead = append(ahead, r)
		}
	}
	return ahead
}

func parameterNames(of []*plan.Release) (names []string) {
	for _, r := range of {
		names = append(names, sortedKeys(r.Parameters)...)
	}
	return names
}
