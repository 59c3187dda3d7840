package cellapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/controlplane/api"
	"github.com/sluice-cd/sluice/engine/controlplane/auth"
	"github.com/sluice-cd/sluice/internal/jsonwrite"
)

// maxReport bounds a report's body, in bytes.
const maxReport = 64 << 10

// Inbox stores a report durably before it returns. Reports go by pointer: copies would make the stacks of ten thousand
// connections larger than they are at rest, and every collection of garbage would shrink them again.
type Inbox interface {
	Receive(ctx context.Context, r *cells.Report) (cells.Receipt, error)
}

// reportHandlers receives the cells' reports.
type reportHandlers struct {
	inbox    Inbox
	auth     *auth.Auth
	answers  *answerCache
	throttle *throttle
	pins     []byte // the fields of receipts that have the control plane's keys, as JSON
}

// encodePins returns the fields of cells.Receipt that have the control plane's keys, each after a comma. signed are the
// pins by which a new standby key reaches the cell.
func encodePins(pins []string, signed []cells.SignedPins) []byte {
	var w jsonwrite.Writer
	if len(pins) > 0 {
		w.Other(`,"pins":`, pins)
	}
	if len(signed) > 0 {
		w.Other(`,"signedPins":`, signed)
	}
	return w.Bytes
}

// encodeReceipt returns json.Marshal of a receipt with pins, and a newline.
func encodeReceipt(r cells.Receipt, pins []byte) ([]byte, error) {
	w := jsonwrite.Writer{Bytes: make([]byte, 0, 96+len(pins))}
	w.Number(`{"acknowledged":`, r.Acknowledged)
	w.Time(`,"time":`, r.Time)
	w.Bytes = append(w.Bytes, pins...)
	w.Raw("}\n")
	return w.Bytes, w.Err
}

// serveReport answers POST /v1/reports with a receipt, after the report is durable.
func (h *reportHandlers) serveReport(w http.ResponseWriter, r *http.Request, c *api.Caller) {
	if !h.allowReport(w, c.Cell) || !h.throttle.admit(w, hashName(c.Cell)) {
		return
	}
	defer h.throttle.inFlight.Release()
	body, ok := api.ReadBody(w, r, maxReport)
	if !ok {
		return
	}
	report, fault := parseReport(body)
	if fault != nil {
		api.WriteProblem(w, http.StatusBadRequest,
			"The report is invalid, and nothing was stored: "+fault.Location+": "+fault.Message+".", fault)
		return
	}
	if !h.auth.MaySpeakFor(c, report.Cell) {
		h.auth.RefuseCell(w, r, c, report.Cell)
		return
	}
	if c.Cell == "" && !h.allowReport(w, report.Cell) { // the query need not name the cell on this machine
		return
	}
	h.throttle.metrics.Reports.Inc()
	defer h.throttle.metrics.Reports.Dec()
	receipt, err := h.inbox.Receive(r.Context(), report)
	if err != nil {
		api.WriteError(w, err)
		return
	}
	var pins []byte
	if c.Listener == api.Cells {
		pins = h.pins
	}
	answer, err := encodeReceipt(receipt, pins)
	if err != nil {
		api.WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // an error means that the client has gone
}

// allowReport reports whether a cell is within its limit; if not, it has written the response. The inbox refuses
// unknown cells.
func (h *reportHandlers) allowReport(w http.ResponseWriter, cell string) bool {
	e := h.answers.latest().entries[cell]
	return e == nil || h.throttle.allow(w, &e.reportBucket, h.throttle.limits.Reports, h.throttle.now(), "reports")
}

// describeReport describes the body. The infrastructure may be a bare number.
func describeReport(d api.Docs) *huma.RequestBody {
	body := d.JSONBody(cells.Report{})
	d.Schemas.SchemaFromRef(d.Schema(cells.Report{}).Ref).Properties["infrastructure"] = &huma.Schema{
		OneOf: []*huma.Schema{{Type: huma.TypeInteger}, d.Schema(cells.ActualInfrastructure{})},
	}
	return body
}

// parseReport refuses unknown fields, which may change the meaning of a report.
func parseReport(body []byte) (report *cells.Report, fault *huma.ErrorDetail) {
	report = new(cells.Report)
	var err error
	if !readPlainReport(body, report) {
		report = new(cells.Report)
		err = decodeStrictly(body, report)
	}
	if err == nil {
		err = report.Validate()
	}
	if err == nil {
		return report, nil
	}
	fault = &huma.ErrorDetail{Location: "body", Message: strings.TrimPrefix(err.Error(), "json: ")}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		fault = &huma.ErrorDetail{Location: "body." + wrong.Field,
			Message: "must be " + wrong.Type.String() + ", not " + wrong.Value}
	} else if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		if name, err := strconv.Unquote(field); err == nil {
			fault = &huma.ErrorDetail{Location: "body." + name, Message: "there is no such field"}
		}
	}
	return report, fault
}

// decodeStrictly refuses unknown fields, and what stands after the value.
func decodeStrictly(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	d.UseNumber() // keeps numbers as they were sent
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the report")
	}
	return nil
}
