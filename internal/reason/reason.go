// Package reason names what a verdict can say, and is the only place where the words are made: a Code with its
// arguments yields the sentence that people read. A program decides by the Code, never by the sentence.
//
// The package is pure, and does not know gates or cells. Names are stable, since the API and docs/gates.md have them;
// the numbers are not, and are never stored. Everything may be called at once.
package reason

import (
	"fmt"
	"strings"
)

// Code is a reason without its arguments. A Code is a byte, since plans have verdicts by the thousand; its text is its
// name.
type Code uint8

// The reasons of gates. A gate that holds has one too: what let the release pass.
const (
	Unknown Code = iota // no reason, or a newer program's

	// The policy's gates.
	SoakHeld
	SoakShort
	SoakImpossible
	UpstreamFinished
	UpstreamAccepted
	UpstreamMissing
	UpstreamElsewhere
	UpstreamFailed
	UpstreamUnfinished
	WindowOpen
	WindowShut
	ApprovalHeld
	ApprovalMissing
	WhenTrue
	WhenFalse
	WhenInvalid
	WhenFailed
	AnswerYes
	AnswerNo
	AnswerFailed
	AnswerMissing
	AnswerOld
	SignaturesHeld
	SignaturesMissing
	SignaturesRefused

	// What every channel has.
	PolicyInvalid
	ReleaseInvalid
	DigestMissing
	CellInvalid
	Hold
	Quarantine
	QuarantineStays
	NotFrozen
	Frozen
	FreezeOverridden
	HeadFinished
	HeadAccepted
	HeadTaken
	HeadAcceptedOrTaken
	HeadFailed
	HeadTimedOut
	HeadUnfinished
	HeadUnaccepted
	Manual
	PeopleFree
	Prerelease
	Floor
	Debt
	HotfixOpen
	HotfixMissing
	HotfixBelow
	RequestFault
	RequestUnknown
	RequestDown
	RequestDone
	RequestWaits
	ClockStepped
	ClockStore
	ClockCells
	Observing
	Diverged
	CellsAhead
	CellAhead
	HeadLost
	PushRefused
	IdentitiesRefused
	AuditRefused
	HeadsUnsigned
	KeyUnlisted
	KeyUnlistable
	KeyRefused
	RemovalUnconfirmed
	BeingRead
	VersionPassed
	RepositoryUnread
	ImagesWarming

	// What holds single cells.
	Infrastructure
	InfrastructureOverdue
	TooOld
	Step
	ForwardOnly
	ValuesInvalid
	CellPaused
	CellPinned
	OwnerPaused
	OwnerPinned
	OwnerApproval
	OwnerWindow
	Failed
	Stalled
	Silent
	MaintenanceAnnounced
	MaintenanceDraining
	Wave
	Slots

	codeCount
)

// theOwner is the person who decides on a cell's machine, in words that do not follow the cell's name.
const theOwner = "the cell's owner"

type entry struct {
	name              string
	format            string // may be "%s" alone, for a person's own text or another part's
	formatWithoutArgs string // used without arguments, where format has some
}

var table = [codeCount]entry{
	SoakHeld:           {name: "soak-held", format: "%d of %s healthy for %s"},
	SoakShort:          {name: "soak-short", format: "%s: %d of %s healthy for %s, needs %d%s"},
	SoakImpossible:     {name: "soak-impossible", format: "impossible: needs %s, %s has %d"},
	UpstreamFinished:   {name: "upstream-finished", format: "%s finished it"},
	UpstreamAccepted:   {name: "upstream-accepted", format: "%s"},
	UpstreamMissing:    {name: "upstream-missing", format: "the upstream does not exist"},
	UpstreamElsewhere:  {name: "upstream-elsewhere", format: "%s does not run it"},
	UpstreamFailed:     {name: "upstream-failed", format: "%s failed in %s"},
	UpstreamUnfinished: {name: "upstream-unfinished", format: "%s: %d of %d cells were healthy on it"},
	WindowOpen:         {name: "window-open"},
	WindowShut:         {name: "window-shut", format: "%s"},
	ApprovalHeld:       {name: "approval-held", format: "%d of %d: %s"},
	ApprovalMissing:    {name: "approval-missing", format: "%d of %d%s%s"},
	WhenTrue:           {name: "when-true", format: "%s"},
	WhenFalse:          {name: "when-false", format: "false: %s"},
	WhenInvalid:        {name: "when-invalid", format: "%s"},
	WhenFailed:         {name: "when-failed", format: "can't be evaluated: %s"},
	AnswerYes:          {name: "answer-yes", format: "%s"},
	AnswerNo:           {name: "answer-no", format: "the answer was no: %s", formatWithoutArgs: "the answer was no"},
	AnswerFailed:       {name: "answer-failed", format: "%s"},
	AnswerMissing:      {name: "answer-missing", format: "not asked yet"},
	AnswerOld:          {name: "answer-old", format: "the last answer is too old"},
	SignaturesHeld:     {name: "signatures-held", format: "%s"},
	SignaturesMissing:  {name: "signatures-missing", format: "%s"},
	SignaturesRefused:  {name: "signatures-refused", format: "%s"},

	PolicyInvalid: {name: "policy-invalid", format: "%s",
		formatWithoutArgs: "the policy has faults; run sluice validate"},
	ReleaseInvalid:   {name: "release-invalid", format: "%s"},
	DigestMissing:    {name: "digest-missing", format: "release %s has no digest; run sluice validate"},
	CellInvalid:      {name: "cell-invalid", format: "%s"},
	Hold:             {name: "hold", format: "%s (%s)"},
	Quarantine:       {name: "quarantine", format: "%s"},
	QuarantineStays:  {name: "quarantine-stays", format: "%s; %s"},
	NotFrozen:        {name: "not-frozen"},
	Frozen:           {name: "frozen", format: "%s", formatWithoutArgs: "frozen"},
	FreezeOverridden: {name: "freeze-overridden", format: "overridden by %s: %s"},
	HeadFinished:     {name: "head-finished", format: "%s is rolled out"},
	HeadAccepted:     {name: "head-accepted", format: "%s accepted %s"},
	HeadTaken:        {name: "head-taken", format: "%s took %s or a newer release"},
	HeadAcceptedOrTaken: {name: "head-accepted-or-taken",
		format: "%s accepted %s, and %s took it or a newer release"},
	HeadFailed:     {name: "head-failed", format: "%s failed"},
	HeadTimedOut:   {name: "head-timed-out", format: "%s ran out of time to settle"},
	HeadUnfinished: {name: "head-unfinished", format: "keeps %s until it is rolled out"},
	HeadUnaccepted: {name: "head-unaccepted", format: "keeps %s until %s accepts it"},
	Manual:         {name: "manual", format: "a person promotes here: sluice promote %s --to %s"},
	PeopleFree:     {name: "people-free", format: "gates do not bind people here"},
	Prerelease:     {name: "prerelease", format: "%s takes no pre-releases"},
	Floor:          {name: "floor", format: "it is below %s"},
	Debt:           {name: "debt", format: "it lacks %s, which hotfix %s brought; list it in fixes, or close %s"},
	HotfixOpen:     {name: "hotfix-open", format: "%s"},
	HotfixMissing:  {name: "hotfix-missing", format: "%s names %s with digest %s, which is not in the repository"},
	HotfixBelow: {name: "hotfix-below",
		format: "%s is below the head %s, and a hotfix only goes up: cut a greater version"},
	RequestFault:   {name: "request-fault", format: "%s; the head stays"},
	RequestUnknown: {name: "request-unknown", format: "%s asks for %s, which is not in the repository"},
	RequestDown:    {name: "request-down", format: "%s asks to go back to %s: %s"},
	RequestDone: {name: "request-done",
		format: "%s asks for %s, which is the head already; the head's other fields are the engine's"},
	RequestWaits: {name: "request-waits", format: "%s asked for %s in %s%s"},
	ClockStepped: {name: "clock-stepped",
		format: "this machine's clock was stepped by %s; check its time service"},
	ClockStore: {name: "clock-store",
		format: "the store's clock differs from this machine's by %s; check their time services"},
	ClockCells: {name: "clock-cells",
		format: "the cells' clocks differ from this one by %s in the median; check its time service"},
	ImagesWarming: {name: "images-warming",
		format: "%d of %d images are still being fetched: %s of %s; cells begin when all are here"},
	Observing: {name: "observing", format: "not every cell has reported since observing began"},
	Diverged: {name: "diverged",
		format: "the branch was rewritten: it no longer contains %s, which was acted upon. " +
			"Put it back, or look at the branch and accept it: %s"},
	CellsAhead: {name: "cells-ahead",
		format: "most cells report %s and the branch is at sequence %d: an older branch was restored. " +
			"Put the newer one back, or accept this one: %s"},
	CellAhead: {name: "cell-ahead",
		format: "it reports %s and neither the branch, at sequence %d, nor a grant explains that: it would refuse a grant. " +
			"If the branch is right, give it a new token: sluice cell add %s"},
	HeadLost: {name: "head-lost",
		format: "%s is in force here (%s), and the branch lacks that release with its digest: %s stays as it is. " +
			"Put the release back, or accept one that was here before: %s"},
	PushRefused:       {name: "push-refused", format: "%s"},
	IdentitiesRefused: {name: "identities-refused", format: "cells' identities: %s"},
	AuditRefused:      {name: "audit-refused", format: "how far the audit is: %s"},
	HeadsUnsigned:     {name: "heads-unsigned", format: "signed heads for cells: %s"},
	KeyUnlisted: {name: "key-unlisted",
		format: "engine.keys in sluice.yaml does not list this engine's key, %s, so what it commits would not count: give it the engine.key of a replica that works or of the backup, or have a listed key list this one: sluice engine-key add"},
	KeyUnlistable: {name: "key-unlistable",
		format: "the engine's key can't be listed in sluice.yaml, which is missing or has faults: " +
			"until it is, whoever may push may promote"},
	KeyRefused: {name: "key-refused", format: "the engine's key is not listed in sluice.yaml yet: %s"},
	RemovalUnconfirmed: {name: "removal-unconfirmed",
		format: "%s removes %d of %d %s, and one push may remove %d: they stay as they were. Revert it, or confirm it: " +
			"git commit --allow-empty -m 'confirm the removal' -m '%s: %s'"},
	BeingRead: {name: "being-read",
		format: "%s is being read: its digest is not known yet, and nothing waits for it"},
	RepositoryUnread: {name: "repository-unread", format: "it can't be read since %s: %s; everything stays as it is"},
	VersionPassed: {name: "version-passed",
		format: "it is below the head %s, and a channel only goes up: cut it again under a greater version"},

	Infrastructure: {name: "infrastructure", format: "%s needs infrastructure %d, the cell has %d"},
	InfrastructureOverdue: {name: "infrastructure-overdue",
		format: "out of support since %s: infrastructure update %d was due, and the cell has %d. " +
			"Its customer has to execute the update: sluice infra show %s"},
	TooOld: {name: "too-old",
		format: "%s installs over %s or later, the cell runs %s, and no former head of its channel leads there: " +
			"only a release that installs over %s would"},
	Step:          {name: "step", format: "%s installs over %s or later, the cell runs %s: it gets %s first"},
	ForwardOnly:   {name: "forward-only", format: "the cell runs %s, and %s is forward-only"},
	ValuesInvalid: {name: "values-invalid", format: "%s"},
	CellPaused:    {name: "cell-paused", format: "%s"},
	CellPinned:    {name: "cell-pinned", format: "pinned to %s"},
	OwnerPaused:   {name: "owner-paused", format: "paused by " + theOwner + ": %s"},
	OwnerPinned:   {name: "owner-pinned", format: "pinned to %s by " + theOwner},
	OwnerApproval: {name: "owner-approval", format: "%s waits for the approval of " + theOwner +
		": sluice cell approve, on the cell's machine"},
	OwnerWindow: {name: "owner-window", format: "outside the windows of " + theOwner + ": %s"},
	Failed:      {name: "failed", format: "%s failed: %s; %s, or this again after sluice cell retry %s"},
	Stalled:     {name: "stalled", format: "began %s at %s and has had no result since"},
	Silent:      {name: "silent", format: "not heard from since %s"},
	MaintenanceAnnounced: {name: "maintenance-announced",
		format: "the cell's maintenance for %s is announced: until it begins, operations are accepted"},
	MaintenanceDraining: {name: "maintenance-draining",
		format: "the cell's maintenance for %s has begun: operations are refused, and those under way are waited for"},
	Wave:  {name: "wave", format: "%s"}, // the planner formats the words itself, since there are thousands
	Slots: {name: "slots", format: "updating at once: at most %s"},
}

// Words returns the reason as people read it. WindowOpen and NotFrozen have no words: the gate's name and the instant
// suffice.
func (c Code) Words(args ...any) string {
	if c >= codeCount {
		return ""
	}
	e := &table[c]
	switch {
	case len(args) == 0 && e.formatWithoutArgs != "":
		return e.formatWithoutArgs
	case len(args) == 0:
		return e.format
	case e.format == "%s":
		if text, ok := args[0].(string); ok {
			return text
		}
	}
	return fmt.Sprintf(e.format, args...)
}

// AfterName returns words of c as they follow a cell's name or gate, where "the cell's owner" becomes "its owner".
func (c Code) AfterName(words string) string {
	switch c {
	case OwnerPaused, OwnerPinned, OwnerApproval, OwnerWindow:
		return strings.Replace(words, theOwner, "its owner", 1)
	}
	return words
}

// String returns the code's name; "" for Unknown.
func (c Code) String() string {
	if c >= codeCount {
		return ""
	}
	return table[c].name
}

func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a name. An unknown name comes from a newer program and becomes Unknown; the words still say the
// reason.
func (c *Code) UnmarshalText(name []byte) error {
	*c = Unknown
	for i := range table {
		if table[i].name == string(name) {
			*c = Code(i)
		}
	}
	return nil
}

// Codes returns every code except Unknown.
func Codes() []Code {
	all := make([]Code, 0, codeCount-1)
	for c := Unknown + 1; c < codeCount; c++ {
		all = append(all, c)
	}
	return all
}
