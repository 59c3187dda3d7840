package maintenance

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/releases"
)

// State is what the product is told: on the local socket, and in a cluster as a ConfigMap. It combines the maintenance
// of an update and the owner's own.
type State struct {
	Phase   Phase     `json:"phase"`
	Refused []string  `json:"refused,omitempty"` // kinds of operation that are refused, or will be from Begins
	Begins  time.Time `json:"begins,omitzero"`
	Until   time.Time `json:"until,omitzero"` // refusing ends then, whatever happens; zero: it has not begun
	Release string    `json:"release,omitempty"`
	Reason  string    `json:"reason,omitempty"` // for people who run the cell: why, or why it takes longer

	Texts releases.Texts `json:"texts,omitempty"` // what users see; see Text
}

// Owner is a maintenance that the cell's owner began.
type Owner struct {
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
}

// MaxOwner bounds how long a maintenance of the owner's lasts.
const MaxOwner = 24 * time.Hour

// Restore returns the owner's maintenance as an agent goes on with it at now; nil: it is over. See Record.Restore.
func (o *Owner) Restore(now time.Time) *Owner {
	if o == nil || !now.Before(o.Until) {
		return nil
	}
	restored := *o
	restored.Until = anchor(o.Until, now, MaxOwner)
	return &restored
}

// DefaultKinds returns the kinds of operation that are refused where a release names none.
func DefaultKinds() []string { return []string{"snapshot", "start", "stop"} }

// Combine returns what the product is told of both maintenances at now, either of which may be nil. The cell's own
// texts come before those of the release.
func Combine(r *Record, o *Owner, own releases.Texts, now time.Time) State {
	s := State{Phase: Off}
	if r != nil && (r.Phase == Announced || r.Refuses(now)) {
		s = State{Phase: r.Phase, Begins: r.Begins, Until: r.Until, Release: r.Release, Reason: r.Why,
			Refused: slices.Sorted(slices.Values(r.Shows.Refuses)), Texts: r.Shows.Texts}
	}
	if o != nil && now.Before(o.Until) {
		if s.Phase == Off || s.Phase == Announced {
			s.Phase, s.Begins, s.Until = Draining, o.Since, o.Until
		}
		if o.Until.After(s.Until) {
			s.Until = o.Until
		}
		s.Reason = cmp.Or(o.Reason, s.Reason)
	}
	if s.Phase == Off {
		return s
	}
	if len(s.Refused) == 0 {
		s.Refused = DefaultKinds()
	}
	if len(own) > 0 {
		s.Texts = own
	}
	return s
}

// Kinds returns the kinds of operation that are refused, or would be.
func (s State) Kinds() []string {
	if len(s.Refused) == 0 {
		return DefaultKinds()
	}
	return s.Refused
}

// Active reports whether operations are refused at now.
func (s State) Active(now time.Time) bool {
	return (s.Phase == Draining || s.Phase == Drained) && now.Before(s.Until)
}

// Refuses reports whether operations of a kind are refused at now.
func (s State) Refuses(kind string, now time.Time) bool {
	return s.Active(now) && slices.Contains(s.Refused, kind)
}

// At returns what s means at now: past its end there is no maintenance.
func (s State) At(now time.Time) State {
	if ends := s.Ends(); !ends.IsZero() && !now.Before(ends) {
		return State{Phase: Off}
	}
	return s
}

// Equal reports whether s and other say the same.
func (s State) Equal(other State) bool {
	return s.Phase == other.Phase && slices.Equal(s.Refused, other.Refused) && s.Begins.Equal(other.Begins) &&
		s.Until.Equal(other.Until) && s.Release == other.Release && s.Reason == other.Reason &&
		maps.EqualFunc(s.Texts, other.Texts, maps.Equal[map[string]string])
}

// Ends returns when time alone changes what s means; zero: it doesn't.
func (s State) Ends() time.Time {
	if s.Phase == Draining || s.Phase == Drained {
		return s.Until
	}
	return time.Time{}
}

// defaultText is what users see where neither the release nor the cell says anything else.
const defaultText = "We're in the middle of an update, which ends by {until} at the latest. Please try again then: " +
	"what is running goes on meanwhile."

// Languages returns the languages of the texts, English first where there is a text in it: the first is for users whose
// languages are not among them.
func (s State) Languages() []string {
	if len(s.Texts) == 0 {
		return []string{"en"}
	}
	all := make([]string, 0, len(s.Texts))
	for language := range s.Texts {
		all = append(all, language)
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(englishFirst(a), englishFirst(b)), strings.Compare(a, b))
	})
	return all
}

func englishFirst(language string) int {
	if strings.EqualFold(language, "en") {
		return 0
	}
	return 1
}

// Text returns what a user sees who asks for an operation of a kind at now; empty kind: what holds for all. language is
// one of Languages.
func (s State) Text(language, kind string, now time.Time) string {
	text := cmp.Or(s.Texts[language][kind], s.Texts[language][releases.TextDefault], defaultText)
	minutes := max(1, int64((s.Until.Sub(now)+time.Minute-1)/time.Minute))
	return strings.NewReplacer("{until}", s.Until.UTC().Format("15:04")+" UTC", "{minutes}",
		strconv.FormatInt(minutes, 10), "{kind}", kind, "{release}", s.Release).Replace(text)
}

func validKind(kind string) bool {
	return releases.ValidOperationKind(kind) && kind != releases.TextDefault
}

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
