package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

func liveObject(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o, err := readManifest([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// owned is a live object with what the agent owns of it.
func owned(t *testing.T, text, fields string) *unstructured.Unstructured {
	t.Helper()
	o := liveObject(t, text)
	o.SetManagedFields([]metav1.ManagedFieldsEntry{
		{Manager: "other", Operation: metav1.ManagedFieldsOperationUpdate,
			FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:x":{}}`)}},
		{Manager: fieldManager, Operation: metav1.ManagedFieldsOperationApply,
			FieldsV1: &metav1.FieldsV1{Raw: []byte(fields)}},
	})
	return o
}

// Only what the agent owns makes the fingerprint, with elements of lists found by key or value.
func TestFingerprint(t *testing.T) {
	const fields = `{"f:spec":{"f:replicas":{},"f:containers":{"k:{\"name\":\"a\",\"port\":1}":{".":{},"f:image":{}}},` +
		`"f:set":{"v:\"x\"":{}},"f:whole":{}}}`
	const base = "kind: K\nspec:\n  replicas: 1\n  containers: [{name: a, port: 1, image: i}, {name: b, port: 1, image: j}]\n" +
		"  set: [x, y]\n  whole: [1, 2]\n  foreign: 1\n"
	want := fingerprint(owned(t, base, fields))
	if want == "" {
		t.Fatal("it owns something, and has no fingerprint")
	}
	for name, c := range map[string]struct {
		old, new string
		drift    bool
	}{
		"a foreign field":               {"foreign: 1", "foreign: 2", false},
		"another element":               {"image: j", "image: k", false},
		"an element before":             {"[{name: a", "[{name: z, port: 3}, {name: a", false},
		"another member of a set":       {"[x, y]", "[x, z]", false},
		"a field":                       {"replicas: 1", "replicas: 2", true},
		"a field that is gone":          {"  replicas: 1\n", "", true},
		"a field of an element":         {"image: i", "image: k", true},
		"an element with another key":   {"name: a, port: 1", "name: a, port: 2", true},
		"a member that is gone":         {"[x, y]", "[y]", true},
		"a list that is owned whole":    {"[1, 2]", "[2, 1]", true},
		"a map where a list was":        {"set: [x, y]", "set: {x: 1}", true},
		"a value where the map was":     {"spec:\n  replicas: 1", "spec2:\n  replicas: 1", true},
		"a foreign element of the list": {"[x, y]", "[y, x, w]", false},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(base, c.old, c.new, 1)
			if text == base {
				t.Fatal("nothing differs")
			}
			if got := fingerprint(owned(t, text, fields)) != want; got != c.drift {
				t.Errorf("drift is %t", got)
			}
		})
	}
	if got := fingerprint(owned(t, base, strings.Replace(fields, `"f:replicas":{},`, "", 1))); got == want {
		t.Error("a field that somebody took over is no drift")
	}
	if got := fingerprint(owned(t, base, `{broken`)); got != "" {
		t.Errorf("fields that can't be read have fingerprint %q", got)
	}
	if got := fingerprint(liveObject(t, base)); got != "" {
		t.Errorf("what the agent never applied has fingerprint %q", got)
	}
}

func entries(all ...entry) *inventory {
	inv := &inventory{}
	for _, e := range all {
		inv.Entries = append(inv.Entries, &e)
	}
	inv.index()
	return inv
}

func of(group, kind, name string) id { return id{Group: group, Kind: kind, Namespace: "n", Name: name} }

func TestPlanRemoval(t *testing.T) {
	crd := id{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition", Name: "widgets.example.com"}
	inv := func() *inventory {
		return entries(
			entry{id: of("", "ConfigMap", "current"), Current: true},
			entry{id: of("", "ConfigMap", "old")},
			entry{id: of("", "ConfigMap", "kept"), Kept: "because"},
			entry{id: of("", "ConfigMap", "existed"), Existed: true},
			entry{id: of("apps", "Deployment", "old")},
			entry{id: of("apps", "StatefulSet", "old")},
			entry{id: of("", "PersistentVolumeClaim", "old")},
			entry{id: id{Kind: "Namespace", Name: "old"}},
			entry{id: id{Kind: "PersistentVolume", Name: "old"}},
			entry{id: crd},
			entry{id: of("example.com", "Widget", "old")},
			entry{id: of("other.example.com", "Gadget", "old")},
		)
	}
	removed := func(p removal) (all []string) {
		for _, e := range p.remove {
			all = append(all, e.Kind+" "+e.Name)
		}
		slices.Sort(all)
		return all
	}
	for name, c := range map[string]struct {
		back  bool
		prune []string
		want  []string
	}{
		"forward": {false, nil, []string{"ConfigMap old", "Deployment old", "Gadget old", "StatefulSet old",
			"Widget old"}},
		"forward, with permission": {false, []string{"Namespace", "PersistentVolumeClaim"}, []string{"ConfigMap old",
			"Deployment old", "Gadget old", "Namespace old", "PersistentVolumeClaim old", "StatefulSet old",
			"Widget old"}},
		"back": {true, nil, []string{"ConfigMap old", "Deployment old", "Gadget old"}},
	} {
		t.Run(name, func(t *testing.T) {
			i := inv()
			i.Rules.Prune = c.prune
			if got := removed(planRemoval(i, c.back)); !slices.Equal(got, c.want) {
				t.Errorf("removed: %v", got)
			}
		})
	}
	order := planRemoval(inv(), false).remove
	if order[0].Kind == "ConfigMap" || order[len(order)-1].Kind == "Deployment" {
		t.Errorf("workloads go after what they use: %v", order)
	}
}

func TestGuardCollapse(t *testing.T) {
	var before []entry
	var objects []object
	for i := range 12 {
		o := of("", "ConfigMap", fmt.Sprint(i))
		before = append(before, entry{id: o, Current: true})
		objects = append(objects, object{id: o})
	}
	r := cells.Rendered{Assignment: cells.Assignment{Release: "2"}}
	for kept, fails := range map[int]bool{12: false, 6: false, 5: true, 1: true} {
		if err := guardCollapse(entries(before...), objects[:kept], r); (err != nil) != fails {
			t.Errorf("%d of 12 kept: %v", kept, err)
		}
	}
	if err := guardCollapse(entries(before[:6]...), objects[:1], r); err != nil {
		t.Errorf("a few objects: %v", err)
	}
	meant, back := r, r
	meant.Kubernetes.RemoveMost, back.Back = true, true
	for _, r := range []cells.Rendered{meant, back} {
		if err := guardCollapse(entries(before...), objects[:1], r); err != nil {
			t.Error(err)
		}
	}
}

// What runs already, and what is gone back to, is not stopped by hooks of others.
func TestGuardForeignHooks(t *testing.T) {
	r := cells.Rendered{Assignment: cells.Assignment{Release: "2"}}
	running, way := entries(), r
	running.Key, way.Back = r.Assignment.Key(), true
	own := object{id: of("batch", "Job", "own"), hook: hookBefore}
	helm := object{id: of("batch", "Job", "helm"), foreign: "h"}
	for name, c := range map[string]struct {
		inv   *inventory
		r     cells.Rendered
		o     object
		fails bool
	}{
		"new": {entries(), r, helm, true}, "running": {running, r, helm, false}, "back": {entries(), way, helm, false},
		"an own hook": {entries(), r, own, false},
	} {
		if err := guardForeignHooks(c.inv, []object{c.o}, c.r); (err != nil) != c.fails {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever the clock does, heals end, and begin again after an hour.
func TestJudgeHeal(t *testing.T) {
	start := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	e := &entry{}
	count := func(from time.Time, n int, step time.Duration) (healed int) {
		for i := range n {
			if judgeHeal(e, from.Add(time.Duration(i)*step)) {
				healed++
			}
		}
		return healed
	}
	if n := count(start, 100, time.Second); n != mostHeals || !e.Resisted {
		t.Errorf("%d heals within two minutes, resisted %t", n, e.Resisted)
	}
	if n := count(start.Add(30*time.Minute), 5, time.Second); n != 0 {
		t.Errorf("%d heals in the hour", n)
	}
	if n := count(start.Add(2*time.Hour), 1, time.Second); n != 1 {
		t.Error("no heal after the hour")
	}
	e = &entry{}
	if n := count(start, 20, 10*time.Minute); n != 20 {
		t.Errorf("%d of 20 rare heals", n)
	}
	e = &entry{}
	count(start, 100, time.Second)
	if n := count(start.AddDate(-1, 0, 0), 100, time.Second); n != mostHeals { // the clock was set back a year
		t.Errorf("%d heals with a clock that was set back", n)
	}
}

func TestBatches(t *testing.T) {
	o := func(group, kind, name string, wave int, hook hookPhase) object {
		return object{id: of(group, kind, name), wave: wave, hook: hook}
	}
	namespaced := func(o object) bool { return o.Kind != "Namespace" && o.Kind != "ClusterRole" }
	var got []string
	for _, b := range batches([]object{
		o("apps", "Deployment", "late", 1, ""), o("apps", "Deployment", "web", 0, ""),
		o("batch", "Job", "after", 0, hookAfter), o("batch", "Job", "before", 0, hookBefore),
		o("", "ConfigMap", "c", 1, ""), o("", "Namespace", "n", 0, ""),
		o("rbac.authorization.k8s.io", "ClusterRole", "r", 0, ""),
		o("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "w", 0, ""),
		o("example.com", "Widget", "w", 0, ""),
	}, namespaced) {
		var all []string
		for _, o := range b.objects {
			all = append(all, o.Kind)
		}
		got = append(got, fmt.Sprint(strings.Join(all, "+"), b.last))
	}
	want := []string{"Namespacefalse", "ClusterRolefalse", "ConfigMapfalse", "Jobfalse", "Deployment+Widgetfalse",
		"ValidatingWebhookConfigurationtrue", "Jobfalse", "Deploymentfalse"}
	if !slices.Equal(got, want) {
		t.Errorf("in the order\n%v, want\n%v", got, want)
	}
}

// What the API server answers is the release's fault, the cell's, or passing.
func TestClassify(t *testing.T) {
	gr := apierrors.NewNotFound
	object := of("apps", "Deployment", "web")
	conflictError := apierrors.NewApplyConflict([]metav1.StatusCause{{Type: metav1.CauseTypeFieldManagerConflict,
		Message: `conflict with "kubectl-edit" using apps/v1`, Field: ".spec.replicas"}}, "conflict")
	denied := func(code int32, reason metav1.StatusReason, message string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason,
			Message: message}}
	}
	const webhook, policy = `admission webhook "validate.example" denied the request: no root`,
		`deployments.apps "web" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no root`
	terminating := apierrors.NewForbidden(deploymentsResource(), "web", errors.New("x"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: "NamespaceTerminating"}}
	for name, c := range map[string]struct {
		err     error
		cause   cells.Cause
		passing bool
	}{
		"invalid":     {apierrors.NewInvalid(deploymentKind(), "web", nil), cells.CauseRelease, false},
		"bad request": {apierrors.NewBadRequest("x"), cells.CauseRelease, false},
		"too large":   {apierrors.NewRequestEntityTooLargeError("x"), cells.CauseRelease, false},
		"forbidden":   {apierrors.NewForbidden(deploymentsResource(), "web", errors.New("x")), cells.CauseCell, false},
		"over quota": {apierrors.NewForbidden(deploymentsResource(), "web", errors.New("exceeded quota: q, requested: "+
			"pods=1, used: pods=1, limited: pods=1")), cells.CauseCell, true},
		"a webhook denies":   {denied(400, "", webhook), cells.CauseUnknown, false},
		"a webhook forbids":  {denied(403, metav1.StatusReasonForbidden, webhook), cells.CauseCell, false},
		"a policy denies":    {denied(422, metav1.StatusReasonInvalid, policy), cells.CauseUnknown, false},
		"no words of denial": {apierrors.NewBadRequest("denied the request: x"), cells.CauseRelease, false},
		"terminating":        {terminating, cells.CauseCell, true},
		"conflict":           {conflictError, cells.CauseUnknown, false},
		"moved on":           {apierrors.NewConflict(deploymentsResource(), "web", errors.New("x")), cells.CauseCell, true},
		"unauthorized":       {apierrors.NewUnauthorized("x"), cells.CauseCell, true},
		"busy":               {apierrors.NewTooManyRequests("x", 1), cells.CauseCell, true},
		"internal":           {apierrors.NewInternalError(errors.New("webhook")), cells.CauseCell, true},
		"timeout":            {apierrors.NewTimeoutError("x", 1), cells.CauseCell, true},
		"no namespace":       {gr(namespacesResource(), "n"), cells.CauseUnknown, false},
		"not there":          {gr(deploymentsResource(), "web"), cells.CauseCell, true},
		"network":            {http.ErrHandlerTimeout, cells.CauseCell, true},
	} {
		t.Run(name, func(t *testing.T) {
			err := classify(object, fmt.Errorf("wrapped: %w", c.err))
			var unavailable *cells.UnavailableError
			if got := errors.As(err, &unavailable); got != c.passing || cells.CauseOf(err) != c.cause {
				t.Errorf("passing %t, at fault %s: %v", got, cells.CauseOf(err), err)
			}
			if strings.Contains(c.err.Error(), "no root") && (!strings.Contains(err.Error(), "policy refuses it") ||
				strings.Contains(err.Error(), "created anew")) {
				t.Errorf("a denial: %v", err)
			}
			if !strings.Contains(err.Error(), "n/web") {
				t.Errorf("it does not name the object: %v", err)
			}
		})
	}
}

func TestAssess(t *testing.T) {
	rule := func(ready, failed string) *compiledRule {
		rules, err := compileRules([]releases.HealthRule{{Group: "e.com", Kind: "W", Ready: ready, Failed: failed}})
		if err != nil {
			t.Fatal(err)
		}
		r := rules[id{Group: "e.com", Kind: "W"}.groupKind()]
		return &r
	}
	for name, c := range map[string]struct {
		text   string
		rule   *compiledRule
		status bool
		want   assessment
	}{
		"no status, and none is written": {"apiVersion: e.com/v1\nkind: W\n", nil, false, assessment{ready: true}},
		"no status": {"apiVersion: e.com/v1\nkind: W\n", nil, true,
			assessment{why: "no status yet"}},
		"an empty status": {"apiVersion: e.com/v1\nkind: W\nstatus: {}\n", nil, true,
			assessment{why: "no status yet"}},
		"ready": {"apiVersion: e.com/v1\nkind: W\nstatus: {x: 1}\n", nil, true, assessment{ready: true}},
		"a condition": {"apiVersion: e.com/v1\nkind: W\nstatus: {conditions: [{type: Ready, status: 'False', message: not yet}]}\n",
			nil, true, assessment{why: "not yet"}},
		"a rule": {"apiVersion: e.com/v1\nkind: W\nstatus: {x: 1}\n", rule("object.status.x == 1", ""), true,
			assessment{ready: true}},
		"a rule about none": {"apiVersion: e.com/v1\nkind: W\n", rule("object.status.x == 1", ""), true,
			assessment{why: "no such key"}},
		"a rule that fails": {"apiVersion: e.com/v1\nkind: W\nstatus: {x: 3}\n",
			rule("object.status.x == 1", "object.status.x == 3"), true, assessment{failed: true, why: "failed"}},
		"a rule that is no bool": {"apiVersion: e.com/v1\nkind: W\nstatus: {x: 3}\n", rule("object.status.x", ""), true,
			assessment{why: "no bool"}},
		"a rule of great cost": {"apiVersion: e.com/v1\nkind: W\nl: [" + strings.Repeat("1,", 999) + "1]\n",
			rule("object.l.all(a, object.l.all(b, object.l.all(c, a > 0)))", ""), true, assessment{why: "cost"}},
		"a claim that waits for its first pod": {"apiVersion: v1\nkind: PersistentVolumeClaim\nstatus: {phase: Pending}\n",
			nil, true, assessment{ready: true}},
		"a claim without its volume": {"apiVersion: v1\nkind: PersistentVolumeClaim\nstatus: {phase: Lost}\n", nil, true,
			assessment{failed: true, why: "lost its volume"}},
		"a job that runs":  {"apiVersion: batch/v1\nkind: Job\nstatus: {active: 1}\n", nil, true, assessment{why: "1 active pod"}},
		"a job that is on": {"apiVersion: batch/v1\nkind: Job\n", nil, true, assessment{why: "not done"}},
		"a job that is done": {"apiVersion: batch/v1\nkind: Job\nstatus: {conditions: [{type: Complete, status: 'True'}]}\n",
			nil, true, assessment{ready: true}},
		"a job that failed": {"apiVersion: batch/v1\nkind: Job\nstatus: {conditions: [{type: Failed, status: 'True', " +
			"reason: DeadlineExceeded}]}\n", nil, true, assessment{failed: true, why: "DeadlineExceeded"}},
		"a job that is suspended": {"apiVersion: batch/v1\nkind: Job\nstatus: {conditions: [{type: Suspended, " +
			"status: 'True'}]}\n", nil, true, assessment{ready: true}},
		"a set without ready pods": {"apiVersion: apps/v1\nkind: StatefulSet\nspec: {updateStrategy: {type: OnDelete}}\n",
			nil, true, assessment{why: "0 of 1 pods are ready"}},
		"a set of none": {"apiVersion: apps/v1\nkind: StatefulSet\nspec: {replicas: 0}\n", nil, true, assessment{ready: true}},
		"being deleted": {"apiVersion: v1\nkind: ConfigMap\nmetadata: {deletionTimestamp: '2026-11-29T12:00:00Z'}\n", nil, false,
			assessment{why: "being deleted"}},
		"hostile words": {"apiVersion: e.com/v1\nkind: W\nstatus: {conditions: [{type: Ready, status: 'False', " +
			"message: \"\\e[2J\"}]}\n", nil, true, assessment{why: `\x1b[2J`}},
	} {
		t.Run(name, func(t *testing.T) {
			got := assess(liveObject(t, c.text), c.rule, c.status)
			if got.ready != c.want.ready || got.failed != c.want.failed || !strings.Contains(got.why, c.want.why) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// A hook is done once it succeeded: a suspended one did nothing yet.
func TestAssessHook(t *testing.T) {
	for conditions, want := range map[string]assessment{
		"":                                  {why: "it is not done: 0 active pods"},
		"{type: Suspended, status: 'True'}": {why: "it is suspended", suspended: true},
		"{type: Suspended, status: 'False'}, {type: Complete, status: 'True'}": {ready: true},
		"{type: Suspended, status: 'True'}, {type: Failed, status: 'True', reason: DeadlineExceeded}": {failed: true,
			why: "it failed: DeadlineExceeded"},
	} {
		got := assessHook(liveObject(t, "apiVersion: batch/v1\nkind: Job\nstatus: {conditions: ["+conditions+"]}\n"))
		if got.ready != want.ready || got.failed != want.failed || got.suspended != want.suspended ||
			!strings.Contains(got.why, want.why) {
			t.Errorf("%s: got %+v, want %+v", conditions, got, want)
		}
	}
}

// The deadline of a hook that has none is not after the end of the wait for it.
func TestLimitHook(t *testing.T) {
	for name, c := range map[string]struct {
		spec string
		wait time.Duration
		want int64
	}{
		"a long wait":        {"{}", time.Hour, 600},
		"a short wait":       {"{}", 90 * time.Second, 90},
		"a very short wait":  {"{}", time.Millisecond, 1},
		"a limit of its own": {"{activeDeadlineSeconds: 3600}", time.Minute, 3600},
	} {
		m := liveObject(t, "apiVersion: batch/v1\nkind: Job\nspec: "+c.spec+"\n")
		limitHook(m, c.wait)
		if got, _, err := unstructured.NestedInt64(m.Object, "spec", "activeDeadlineSeconds"); got != c.want {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}

// Whatever a file holds, reading it ends in an object or in an error.
func FuzzReadManifest(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"))
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Add([]byte("- 1\n"))
	f.Add([]byte(`{"apiVersion":1,"kind":["x"],"metadata":{"annotations":{"sluice/wave":3}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := readManifest(text)
		if err != nil {
			return
		}
		if _, err := describe(m); err == nil && m.GetName() == "" {
			t.Error("an object without a name")
		}
		if _, err := json.Marshal(m.Object); err != nil {
			t.Error(err)
		}
		fingerprint(m)
	})
}

func deploymentKind() schema.GroupKind { return schema.GroupKind{Group: "apps", Kind: "Deployment"} }

func deploymentsResource() schema.GroupResource {
	return schema.GroupResource{Group: "apps", Resource: "deployments"}
}

func namespacesResource() schema.GroupResource { return schema.GroupResource{Resource: "namespaces"} }
