// Package sessionapi serves debug sessions: the connections of a cell's agent and of the person who asked for the
// session, which it joins, and the records of sessions that ended.
//
// It neither reads nor makes anything that passes between the two ends (D4). What a person may do in a cell, that cell
// decides; here, a person needs the role operator and a request that is on record. All methods may be called from any
// goroutine.
package sessionapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/engine/controlplane/limit"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/engine/debugrecords"
	"github.com/sluice-cd/sluice/engine/debugrelay"
	"github.com/sluice-cd/sluice/engine/records"
)

// recheckRequest is how often it is asked whether a live session's request was withdrawn, at another replica perhaps.
const recheckRequest = 500 * time.Millisecond

// Requests knows the requests for debug access.
type Requests interface {
	// Find returns a request of a cell that was not withdrawn, or records.ErrNotFound.
	Find(ctx context.Context, cell, id string) (debug.SignedRequest, error)
	// Load returns a request of a cell, withdrawn or not: its session may have begun before. It may return
	// records.ErrNotFound.
	Load(ctx context.Context, cell, id string) (debugging.Entry, error)
	// Sealed keeps the seal of a request's session; stored says that its record is kept. It returns
	// debugging.ErrOtherSeal if another seal is kept.
	Sealed(ctx context.Context, cell, id string, s debug.SignedSeal, stored bool) error
}

// Throttle bounds what one cell may request.
type Throttle interface {
	// AllowSession reports whether the cell may request something of a session now. If not, it has answered.
	AllowSession(w http.ResponseWriter, cell string) bool
	// AllowRecord reports whether the cell may send a record now. If not, it has answered.
	AllowRecord(w http.ResponseWriter, cell string) bool
}

// Options configures the routes. All fields but Limits and Dir are required.
type Options struct {
	Views    api.Views
	Auth     *auth.Auth
	Requests Requests
	Records  *debugrecords.Keeper
	Throttle Throttle
	Limits   debugrelay.Limits
	Dir      string // for records that are being received; empty: the system's for temporary files
	Shutdown api.Shutdown
}

// API serves sessions.
type API struct {
	views    api.Views
	auth     *auth.Auth
	requests Requests
	records  *debugrecords.Keeper
	throttle Throttle
	relay    *debugrelay.Relay
	dir      string
	reading  limit.InFlight // records that are being received
	from     sync.Map       // the cells from which, by name
}

// New returns an API and starts nothing.
func New(o Options) *API {
	return &API{views: o.Views, auth: o.Auth, requests: o.Requests, records: o.Records,
		throttle: o.Throttle, relay: debugrelay.New(o.Limits, o.Shutdown), dir: o.Dir,
		reading: limit.InFlight{Limit: maxReceived}}
}

// IsLive reports whether this process relays the session of a request.
func (a *API) IsLive(cell, id string) bool { return a.relay.IsJoined(sessionKey(cell, id)) }

func sessionKey(cell, id string) string { return cell + "/" + id }

// Sessions returns how many sessions this process relays.
func (a *API) Sessions() int { return a.relay.Sessions() }

// Routes returns the routes.
func (a *API) Routes(api.Docs) []api.Route {
	id := api.RequiredParam(api.Param("id", "path", "the request's ID", api.TextSchema()))
	name := api.RequiredParam(api.Param("name", "path", "the cell's name", api.TextSchema()))
	cell := api.Param("cell", "query", "the cell's name, required on this machine where cells have no keys", api.TextSchema())
	upgraded := map[string]*huma.Response{"101": {Description: "Both ends are here, and their bytes are passed on"}}
	return []api.Route{
		{Method: http.MethodPost, Path: debug.AgentPath("{id}"), Audience: api.Cell, Handler: a.serveAgent,
			Operation: huma.Operation{
				OperationID: "debugAgent", Tags: []string{"cells"},
				Summary: "A cell's end of a debug session",
				Description: "With Upgrade: " + debug.Protocol + " over HTTP/1.1. 503 after two seconds unless the person " +
					"waits here: ask again by a new connection, which may lead to another replica.",
				Parameters: []*huma.Param{id, cell, api.RequiredParam(api.Param(debug.HostKeyHeader, "header",
					"the session's host key and the cell's signature, as JSON in base64", api.TextSchema()))},
				Responses: upgraded, Errors: []int{400, 404, 409, 426, 429, 503}}},
		{Method: http.MethodPost, Path: debug.PersonPath("{name}", "{id}"), Audience: api.Operator, OfCell: true,
			Handler: a.servePerson,
			Operation: huma.Operation{
				OperationID: "debugPerson", Tags: []string{"people"},
				Summary: "A person's end of a debug session",
				Description: "With Upgrade: " + debug.Protocol + " over HTTP/1.1. 503 if the cell does not come within 20 " +
					"seconds: ask again.",
				Parameters: []*huma.Param{name, id}, Responses: upgraded, Errors: []int{404, 409, 426, 503}}},
		{Method: http.MethodPost, Path: debug.RecordPath("{id}"), Audience: api.Cell, Handler: a.serveSeal,
			Operation: huma.Operation{
				OperationID: "debugRecord", Tags: []string{"cells"},
				Summary: "The seal of a debug session, and its record",
				Description: "The record is an asciicast, compressed with zstd, of at most 64 MiB then; it is empty if the " +
					"cell's owner withholds it, or if only the seal can be sent. The response comes after both are durable. " +
					"What is kept never changes: 409 if another seal of the session is.",
				Parameters: []*huma.Param{id, cell, api.RequiredParam(api.Param(debug.SealHeader, "header",
					"the signed seal, as JSON in base64", api.TextSchema()))},
				RequestBody: &huma.RequestBody{Content: map[string]*huma.MediaType{
					debug.RecordType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}},
				Responses: map[string]*huma.Response{"204": {Description: "Seal and record are stored"}},
				Errors:    []int{400, 404, 409, 413, 415, 429, 503}}},
		{Method: http.MethodGet, Path: debug.PersonPath("{name}", "{id}") + "/record",
			Audience: api.Operator, OfCell: true, Handler: a.serveRecord,
			Operation: huma.Operation{
				OperationID: "debugRecordOf", Tags: []string{"people"},
				Summary:    "The record of a debug session, as an asciicast",
				Parameters: []*huma.Param{name, id},
				Responses: map[string]*huma.Response{"200": api.Response("The record", debug.RecordType,
					&huma.Schema{Type: huma.TypeString, Format: "binary"})},
				Errors: []int{404, 503}}},
	}
}

// find finds a request that was not withdrawn. If it returns false, it has written the response.
func (a *API) find(w http.ResponseWriter, r *http.Request, cell string) bool {
	_, err := a.requests.Find(r.Context(), cell, r.PathValue("id"))
	if err != nil {
		writeUnknown(w, err)
	}
	return err == nil
}

// writeUnknown says that a request was not found.
func writeUnknown(w http.ResponseWriter, err error) {
	if !errors.Is(err, records.ErrNotFound) && !errors.Is(err, records.ErrInvalid) {
		api.WriteError(w, err)
		return
	}
	api.WriteProblem(w, http.StatusNotFound,
		"There is no such request for this cell: sluice debug list shows all, sluice debug request makes one.")
}

// serveAgent answers POST /v1/debug/{id}.
func (a *API) serveAgent(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	hello := r.Header.Get(debug.HostKeyHeader)
	if hello == "" || len(hello) > 4<<10 || strings.ContainsAny(hello, "\r\n") {
		api.WriteProblem(w, http.StatusBadRequest, "Name the session's host key in the header "+debug.HostKeyHeader+".")
		return
	}
	if a.throttle.AllowSession(w, c.Cell) && a.find(w, r, c.Cell) {
		a.join(w, r, c.Cell, debugrelay.Agent, hello, func(context.Context) bool { return a.auth.StillAllowsCell(c) })
	}
}

// servePerson answers POST /v1/cells/{name}/debug/{id}.
func (a *API) servePerson(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	cell := r.PathValue("name")
	if !a.find(w, r, cell) {
		return
	}
	channel := ""
	if known := a.views.View(); known != nil && known.Desired.Cells[cell] != nil {
		channel = known.Desired.Cells[cell].Channel
	}
	checked := time.Now()
	a.join(w, r, cell, debugrelay.Person, "", func(ctx context.Context) bool {
		if now := time.Now(); now.Sub(checked) >= recheckRequest {
			checked = now
			// Only what is certain cuts a session: the store may be away for a moment.
			if _, err := a.requests.Find(ctx, cell, r.PathValue("id")); errors.Is(err, records.ErrNotFound) {
				return false
			}
		}
		return a.auth.StillAllowsRoleIn(ctx, c, api.Operator, channel)
	})
}

// join waits for the other end, takes the connection over, and passes on what comes.
func (a *API) join(
	w http.ResponseWriter, r *http.Request, cell string, side debugrelay.Side, hello string,
	allowed func(context.Context) bool,
) {
	if r.Header.Get("Upgrade") != debug.Protocol || r.ProtoMajor != 1 {
		w.Header().Set("Upgrade", debug.Protocol)
		api.WriteProblem(w, http.StatusUpgradeRequired,
			"Ask for Upgrade: "+debug.Protocol+" over HTTP/1.1, as sluice debug connect does. A proxy on the way must pass "+
				"this header on.")
		return
	}
	seat, err := a.relay.Meet(r.Context(), sessionKey(cell, r.PathValue("id")), side, hello, allowed)
	if err != nil {
		writeUnmet(w, err, side)
		return
	}
	defer seat.Leave()
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		api.WriteError(w, err)
		return
	}
	api.NoteStatus(w, http.StatusSwitchingProtocols)
	answer := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + debug.Protocol + "\r\n"
	if side == debugrelay.Person {
		answer += debug.HostKeyHeader + ": " + seat.Hello() + "\r\n"
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	if _, err := io.WriteString(conn, answer+"\r\n"); err != nil {
		_ = conn.Close()
		return
	}
	seat.Run(conn, early)
}

// writeUnmet says why there is no session.
func writeUnmet(w http.ResponseWriter, err error, side debugrelay.Side) {
	w.Header().Set("Connection", "close") // the next connection may lead to another replica
	switch {
	case errors.Is(err, debugrelay.ErrLive):
		api.WriteProblem(w, http.StatusConflict, "A session for this request is live.")
	case errors.Is(err, debugrelay.ErrReplaced):
		api.WriteProblem(w, http.StatusConflict, "Another connection came for this session.")
	case errors.Is(err, debugrelay.ErrAlone) && side == debugrelay.Person:
		api.WriteProblem(w, http.StatusServiceUnavailable,
			"The cell did not come: its owner has to approve the request, by sluice cell debug approve, and its agent to run.")
	case errors.Is(err, debugrelay.ErrAlone):
		api.WriteProblem(w, http.StatusServiceUnavailable, "The person is not here: ask again by a new connection.")
	default:
		api.WriteProblem(w, http.StatusServiceUnavailable, "There is no session now: ask again in a moment.")
	}
}
