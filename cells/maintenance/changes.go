package maintenance

import (
	"slices"

	"github.com/sluice-cd/sluice/releases"
)

// Changes reports whether a component that is marked, in either, differs between what may be running and what comes. A
// component that is removed, added or renamed differs. Where several images of one name may be running, as in the
// middle of an update, the name differs whatever comes.
func Changes(running, coming []releases.Component) bool {
	marked := map[string]bool{}
	for _, c := range slices.Concat(running, coming) {
		marked[c.Name] = marked[c.Name] || c.Maintenance
	}
	for name := range marked {
		if marked[name] && !sameImages(name, running, coming) {
			return true
		}
	}
	return false
}

func sameImages(name string, running, coming []releases.Component) bool {
	a, b := imagesOf(name, running), imagesOf(name, coming)
	return len(a) == 1 && slices.Equal(a, b)
}

// imagesOf returns the different images of a name, sorted.
func imagesOf(name string, components []releases.Component) []string {
	var images []string
	for _, c := range components {
		if c.Name == name {
			images = append(images, c.Image)
		}
	}
	slices.Sort(images)
	return slices.Compact(images)
}

// Union returns the components of both, without repeats: what may be running while one replaces the other.
func Union(a, b []releases.Component) []releases.Component {
	all := slices.Clone(a)
	for _, c := range b {
		if !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}
