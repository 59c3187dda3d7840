package cells

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/releases"
)

// Rendered holds the manifests of an assignment: files by slash-separated relative path.
type Rendered struct {
	Assignment Assignment
	Files      map[string][]byte
	Objects    []Object            // that the files describe, in the order in which to apply them
	Kubernetes releases.Kubernetes // the release's own rules for a cluster
	Back       bool                // this is a rollback: what is stateful outlives it
	Proven     bool                // health held for long enough: what earlier releases left may be removed
}

// Object names an object of a manifest.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// Target applies a cell's manifests. Calls never overlap. Every method honours ctx and may be killed at any instant:
// Apply, called again with the same value, completes the work. A target that can't switch in one step removes nothing
// that only an earlier release had, before a Heal of something Proven.
type Target interface {
	// Apply makes r current and returns once it is durable.
	Apply(ctx context.Context, r Rendered) error
	// Health returns nil if what was applied works now, and an *Unhealthy if it does not work (yet).
	Health(ctx context.Context) error
	// Heal restores what drifted from r and returns how many objects it restored. A *RecurringDriftError says that
	// something else undoes what Heal does, again and again; what runs is otherwise in order.
	Heal(ctx context.Context, r Rendered) (mended int, err error)
}

// Watcher is a Target that notices changes by itself.
type Watcher interface {
	// Changed returns a channel that receives when a Heal or a health check may find something new. Several changes
	// before the receiver looks count as one.
	Changed() <-chan struct{}
}

// Noter is a Target that knows more than whether it works.
type Noter interface {
	// Notes returns what people should know though nothing keeps the product from working, such as a deletion that
	// hangs. It may be called between other calls, not during one.
	Notes() []string
}

// MaintenanceTeller is a Target that makes maintenances known where its product runs, beside the agent's own socket.
type MaintenanceTeller interface {
	// TellMaintenance makes a state known, and returns once it is. It may be called during other calls.
	TellMaintenance(ctx context.Context, s maintenance.State) error
}

// MaxUnhealthyObjects is how many objects an Unhealthy names.
const MaxUnhealthyObjects = 20

// Unhealthy says that what runs does not work (yet). Immutable.
type Unhealthy struct {
	Reason  string         `json:"reason" doc:"in a few words, without the objects"`
	Objects []ObjectHealth `json:"objects,omitempty" doc:"at most 20, first those that failed; none: the target knows no objects"`
	More    int            `json:"more,omitempty" minimum:"0" doc:"how many other objects are unhealthy"`
}

// ObjectHealth says why one object is unhealthy.
type ObjectHealth struct {
	Object string   `json:"object" doc:"kind, namespace and name"`
	Reason string   `json:"reason" doc:"one line"`
	Events []string `json:"events,omitempty" doc:"what happened to it last, newest first; few, and of one line each"`
}

func (u *Unhealthy) Error() string {
	var text strings.Builder
	text.WriteString(u.Reason)
	for i, o := range u.Objects {
		separator := "; "
		if i == 0 {
			separator = ": "
		}
		text.WriteString(separator + o.String())
	}
	if u.More > 0 {
		fmt.Fprintf(&text, "; and %d more", u.More)
	}
	return text.String()
}

// Lines returns the objects in words, a line each, and how many more there are.
func (u *Unhealthy) Lines() (lines []string) {
	for _, o := range u.Objects {
		lines = append(lines, o.String())
	}
	if u.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", u.More))
	}
	return lines
}

func (o ObjectHealth) String() string {
	text := o.Object + ": " + o.Reason
	if len(o.Events) > 0 {
		text += " (" + strings.Join(o.Events, "; ") + ")"
	}
	return text
}

// RecurringDriftError says what drifts again after each heal, and what the target does about it.
type RecurringDriftError struct{ Reason string }

func (e *RecurringDriftError) Error() string { return e.Reason }
