package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-cd/sluice/cells"
)

const (
	hookLimit     = 600 // seconds that a hook without a limit of its own may take
	hookLook      = 200 * time.Millisecond
	maxHookPrefix = 40 // bytes of a hook's own name in the name of its run
)

// hookName returns the name of the Job that is a hook's one run for a release. A Job can't be changed, so another
// release, or another manifest, has another.
func hookName(name string, a cells.Assignment, hash string) string {
	return name[:min(len(name), maxHookPrefix)] + "-" + contentHash([]byte(a.Digest), []byte(hash))[:10]
}

// limitHook gives a hook a deadline, unless it has one.
func limitHook(m *unstructured.Unstructured) {
	if _, ok, _ := unstructured.NestedFieldNoCopy(m.Object, "spec", "activeDeadlineSeconds"); !ok {
		_ = unstructured.SetNestedField(m.Object, int64(hookLimit), "spec", "activeDeadlineSeconds")
	}
}

// hooks runs hooks one after the other, in the order of their names, and waits for each to succeed.
func (u *run) hooks(ctx context.Context, hooks []object) error {
	hooks = slices.Clone(hooks)
	slices.SortFunc(hooks, func(a, b object) int { return compareIDs(a.id, b.id) })
	for _, o := range hooks {
		if slices.Contains(u.target.inventory.Hooks, o.Namespace+"/"+o.Name) {
			continue
		}
		if err := u.hook(ctx, o); err != nil {
			return err
		}
		u.target.inventory.addHook(o.Namespace + "/" + o.Name)
		if err := u.target.inventory.save(u.target.file); err != nil {
			return err
		}
	}
	return nil
}

// hook starts a hook, or finds it running, and waits for it.
func (u *run) hook(ctx context.Context, o object) error {
	t := u.target
	if err := u.object(ctx, o); err != nil {
		return err
	}
	late := &refusal{fmt.Sprintf("hook %s is not done within %s", o.id, t.options.WaitTimeout), cells.CauseRelease}
	limited, cancel := context.WithTimeoutCause(ctx, t.options.WaitTimeout, late)
	defer cancel()
	for {
		found, err := t.cluster.find(ctx, o.groupKind(), o.version)
		if err != nil {
			return unavailable("look at hook "+o.id.String(), err)
		}
		live, err := t.cluster.get(limited, found, o.id)
		switch {
		case context.Cause(limited) != nil:
			return context.Cause(limited)
		case err != nil:
			return unavailable("look at hook "+o.id.String(), err)
		case live == nil:
			return &cells.UnavailableError{Cause: fmt.Errorf("hook %s was deleted before it was done", o.id)}
		}
		switch a := assessHook(live); {
		case a.ready:
			return nil
		case a.failed:
			return &refusal{fmt.Sprintf("hook %s: %s", o.id, a.why), cells.CauseRelease}
		}
		if err := pause(limited, hookLook); err != nil {
			return err
		}
	}
}
