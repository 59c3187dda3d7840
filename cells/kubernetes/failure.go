package kubernetes

import (
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/internal/cleantext"
	"github.com/sluice-cd/sluice/internal/words"
)

const maxMessage = 500 // bytes of the API server's words

// refusal says that the API server does not take an object, and won't take the same request later.
type refusal struct {
	reason string
	cause  cells.Cause
}

func (e *refusal) Error() string { return e.reason }

func (e *refusal) FailureCause() cells.Cause { return e.cause }

// conflict says which fields of an object others own.
type conflict struct {
	object id
	fields []ownedField
}

type ownedField struct{ field, manager string }

func (e *conflict) Error() string {
	text := some(e.fields, func(f ownedField) string { return f.field + " belongs to " + f.manager })
	return fmt.Sprintf("%s: %s: remove the fields from the release or from there, or take the program's fields over by "+
		"kubernetes: {takeOver: […]} in release.yaml", e.object, text)
}

// FailureCause returns that it is not known: the release may claim too much, or somebody in the cell changed it.
func (e *conflict) FailureCause() cells.Cause { return cells.CauseUnknown }

// classify turns what the API server answered to a write of an object into a *refusal, a *conflict or a
// *cells.UnavailableError.
func classify(object id, err error) error {
	message := fmt.Sprintf("%s: %s", object, words.Clip(cleantext.Line(err.Error()), maxMessage))
	status, ok := errors.AsType[*apierrors.StatusError](err)
	switch {
	case isNotServed(err):
		return &cells.UnavailableError{Cause: errors.New(message)}
	case !ok:
		return &cells.UnavailableError{Cause: errors.New(message)}
	}
	if fields := conflictingFields(status.Status()); len(fields) > 0 {
		return &conflict{object, fields}
	}
	switch {
	case apierrors.HasStatusCause(err, metav1.CauseType("NamespaceTerminating")):
		return &cells.UnavailableError{Cause: fmt.Errorf("%s: its namespace is being deleted, and that is not done yet: "+
			"kubectl get namespace %s -o yaml says what it waits for", object, object.Namespace)}
	case isDenied(status.Status()):
		cause := cells.CauseUnknown // the release may ask for too much, or the cell allow too little
		if apierrors.IsForbidden(err) {
			cause = cells.CauseCell
		}
		return &refusal{message + ": the cluster's policy refuses it: the release meets the policy, or the cell's owner " +
			"makes an exception", cause}
	case apierrors.IsForbidden(err) && strings.Contains(status.Status().Message, "exceeded quota"):
		return &cells.UnavailableError{Cause: errors.New(message + ": the cell's owner raises the quota")}
	case apierrors.IsInvalid(err):
		return &refusal{message + ": an object is never deleted to be created anew; a field that can't be changed takes " +
			"an object with another name", cells.CauseRelease}
	case apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err), apierrors.IsMethodNotSupported(err),
		apierrors.IsUnsupportedMediaType(err), apierrors.IsNotAcceptable(err):
		return &refusal{message, cells.CauseRelease}
	case apierrors.IsForbidden(err):
		return &refusal{message + ": the cell's owner grants it", cells.CauseCell}
	case apierrors.IsNotFound(err) && object.Namespace != "" && status.Status().Details != nil &&
		status.Status().Details.Kind == "namespaces":
		return &refusal{fmt.Sprintf("%s: there is no namespace %s: a release has its namespaces, or the cell's owner "+
			"makes them", object, object.Namespace), cells.CauseUnknown}
	}
	return &cells.UnavailableError{Cause: errors.New(message)}
}

// isDenied reports whether an admission webhook or an admission policy refused an object. The status code is whatever
// its author chose: 400 and 422 unless they said otherwise.
func isDenied(s metav1.Status) bool {
	return strings.HasPrefix(s.Message, "admission webhook ") && strings.Contains(s.Message, " denied the request") ||
		strings.Contains(s.Message, "ValidatingAdmissionPolicy '") && strings.Contains(s.Message, " denied request: ")
}

// conflictingFields returns the fields of a conflict with other managers.
func conflictingFields(s metav1.Status) []ownedField {
	if s.Details == nil {
		return nil
	}
	var fields []ownedField
	for _, c := range s.Details.Causes {
		if c.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		// The manager is only in the message: conflict with "NAME" using v1, or with "NAME" with subresource …
		manager := "somebody else"
		if _, rest, ok := strings.Cut(c.Message, `"`); ok {
			manager, _, _ = strings.Cut(rest, `"`)
		}
		fields = append(fields, ownedField{cleantext.Line(c.Field), cleantext.Line(manager)})
	}
	return fields
}

// join makes one error of those of several objects. What can't succeed later outweighs what may.
func join(all []error) error {
	var refused, open []error
	cause := cells.Cause("")
	for _, err := range all {
		if _, ok := errors.AsType[*cells.UnavailableError](err); ok {
			open = append(open, err)
			continue
		}
		refused = append(refused, err)
		if c := cells.CauseOf(err); cause == "" || cause == c {
			cause = c
		} else {
			cause = cells.CauseUnknown
		}
	}
	switch {
	case len(refused) == 1:
		return refused[0]
	case len(refused) > 0:
		what := words.Count(len(refused), "object") + " can't be applied: "
		return &refusal{what + some(refused, error.Error), cause}
	case len(open) > 0:
		return &cells.UnavailableError{Cause: errors.New(some(open, error.Error))}
	}
	return nil
}
