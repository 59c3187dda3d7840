package controlplane

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/cells"
)

// maxReport bounds a report's body, in bytes.
const maxReport = 64 << 10

// reports answers POST /v1/reports: 200 with a receipt, once the report is durable.
func (s *Server) reports(w http.ResponseWriter, r *http.Request) {
	c := callerOf(r.Context())
	if !s.mayReport(w, c.cell) || !s.enter(w, hashName(c.cell)) {
		return
	}
	defer s.flights.leave()
	body, ok := readBody(w, r, maxReport)
	if !ok {
		return
	}
	report, fault := parseReport(body)
	if fault != nil {
		problem(w, http.StatusBadRequest, "The report was not understood, and nothing was kept: "+fault.Location+": "+fault.Message+".", fault)
		return
	}
	if !s.speaksFor(c, report.Cell) {
		forbidden(w)
		return
	}
	if c.cell == "" && !s.mayReport(w, report.Cell) { // on this machine it need not be named before
		return
	}
	s.metrics.reporting.Inc()
	defer s.metrics.reporting.Dec()
	receipt, err := s.opts.Inbox.Receive(r.Context(), report)
	if err != nil {
		failed(w, err)
		return
	}
	if c.door == doorCells {
		receipt.Pins = s.opts.Keys.Pins // the cell learns of a new standby key
	}
	writeJSON(w, http.StatusOK, receipt)
}

// parseReport is strict: a field that is not known here may mean something that is not understood here.
func parseReport(body []byte) (report cells.Report, fault *huma.ErrorDetail) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	d.UseNumber() // values come back as the same JSON
	err := d.Decode(&report)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is something after the report")
		}
	}
	if err == nil {
		err = report.Check()
	}
	if err == nil {
		return report, nil
	}
	fault = &huma.ErrorDetail{Location: "body", Message: strings.TrimPrefix(err.Error(), "json: ")}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		fault = &huma.ErrorDetail{Location: "body." + wrong.Field, Message: "must be " + wrong.Type.String() + ", not " + wrong.Value}
	} else if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if name, err := strconv.Unquote(field); err == nil {
			fault = &huma.ErrorDetail{Location: "body." + name, Message: "there is no such field"}
		}
	}
	return report, fault
}

// readBody reads a JSON body of at most limit bytes; serve bounds the time. If it can't, it has answered.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, bool) {
	// A page of another site can send a form to a loopback server, but not JSON without asking first.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		problem(w, http.StatusUnsupportedMediaType, "Send it with Content-Type: application/json.")
		return nil, false
	}
	if r.ContentLength > limit {
		tooLarge(w, limit)
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		tooLarge(w, limit)
	case err != nil:
		problem(w, http.StatusBadRequest, "The body did not arrive whole: send it again.")
	}
	return body, err == nil
}

func tooLarge(w http.ResponseWriter, limit int64) {
	w.Header().Set("Connection", "close")
	problem(w, http.StatusRequestEntityTooLarge, "The body is larger than "+strconv.FormatInt(limit, 10)+" bytes: send less at once.")
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		failed(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // an error: the client has gone
}
