package web

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"

	"github.com/eiderdb/eider"
	"github.com/valyala/fasthttp"
)

// statuses is the one place where a code becomes an HTTP status.
var statuses = map[eider.Code]int{
	eider.Unauthorized: 401, eider.Forbidden: 403, eider.NotFound: 404, eider.MethodNotAllowed: 405, eider.NotAcceptable: 406,
	eider.MalformedRequest: 400, eider.MalformedJSON: 400, eider.UnsupportedMediaType: 415, eider.ValidationFailed: 422,
	eider.BodyTooLarge: 413, eider.BodyIncomplete: 400, eider.HeadersTooLarge: 431, eider.RequestTimeout: 408,
	eider.ExpectationFailed: 417, eider.PreconditionFailed: 412, eider.InvalidCursor: 400,
	eider.IdempotencyInProgress: 409, eider.IdempotencyConflict: 409, eider.OperationInProgress: 409, eider.Cancelled: 499,
	eider.RateLimited: 429, eider.DeniedByPolicy: 403, eider.QuotaExceeded: 507, eider.StorageFull: 507,
	eider.StorageUnavailable: 503, eider.ShuttingDown: 503, eider.TooManyConnections: 503, eider.Internal: 500,
	eider.ProjectExists: 409, eider.ProjectIsLocked: 423, eider.InvalidTransition: 409, eider.NotDeleted: 409, eider.Purged: 410,
	eider.KeyNotFound: 404, eider.CannotRevokeLastAdmin: 400, eider.CannotRotateRevokedKey: 400,
	eider.FileNotFound: 404, eider.FileContentNotFound: 404, eider.FileNotUploaded: 400, eider.FileTooLarge: 413,
	eider.UploadSessionNotFound: 404, eider.UploadSessionMismatch: 403, eider.UploadSessionExpired: 410, eider.UploadInProgress: 409,
	eider.UploadOffsetConflict: 409, eider.ChecksumMismatch: 422, eider.SizeMismatch: 422, eider.RangeNotSatisfiable: 416,
	eider.BucketNotFound: 404, eider.BucketExists: 409, eider.BucketNotEmpty: 409, eider.BranchNotFound: 404, eider.TableNotFound: 404, eider.TableExists: 409, eider.ColumnNotFound: 404, eider.ColumnExists: 409,
	eider.InvalidColumnType: 400, eider.InvalidWhereClause: 400, eider.QueryFailed: 400, eider.StatementNotAllowed: 400,
	eider.InvalidPrimaryKey: 400, eider.NoPrimaryKey: 400, eider.PrimaryKeyExists: 409, eider.NoChangesSpecified: 400, eider.CannotDropLastColumn: 400, eider.ColumnInPrimaryKey: 400, eider.InvalidFormat: 400, eider.InvalidCompression: 400,
	eider.ImportFailed: 400, eider.DuplicateKeyValue: 409, eider.QueryTimeout: 408, eider.OutOfMemory: 422, eider.TooManyQueries: 429, eider.ProjectRestarted: 503,
	eider.PluginNotFound: 404, eider.PluginRefused: 422, eider.AuditSinkBehind: 503,
	eider.JobNotFound: 404, eider.JobFinished: 409, eider.Interrupted: 503,
}

// Status returns the HTTP status of a code, 500 for one that is unknown.
func Status(code eider.Code) int {
	if status, ok := statuses[code]; ok {
		return status
	}
	return fasthttp.StatusInternalServerError
}

// titles are for statuses that have no text of their own.
var titles = map[int]string{499: "Client Closed Request"}

func title(status int) string {
	if t, ok := titles[status]; ok {
		return t
	}
	return fasthttp.StatusMessage(status)
}

// problem is the body of every error (RFC 9457).
type problem struct {
	Type       string             `json:"type"`
	Title      string             `json:"title"`
	Status     int                `json:"status"`
	Detail     string             `json:"detail"`
	Instance   string             `json:"instance"`
	Code       eider.Code         `json:"code"`
	Message    string             `json:"message"`
	RequestID  string             `json:"request_id"`
	Errors     []eider.FieldError `json:"errors,omitempty"`
	Plugin     string             `json:"plugin,omitempty"`
	Reason     string             `json:"reason,omitempty"`
	DecisionID string             `json:"decision_id,omitempty"`
}

// refuse writes an error as problem+json. What is no *eider.Error is answered as
// internal; its text is for the log alone.
func refuse(ctx *fasthttp.RequestCtx, err error, instance, requestID string) int {
	var e *eider.Error
	if !errors.As(err, &e) {
		e = eider.Errorf(eider.Internal, "something went wrong in the server; the request id finds it in the log")
	}
	status := Status(e.Code)
	if e.Status != 0 {
		status = e.Status
	}
	for name, value := range e.Headers {
		ctx.Response.Header.Set(name, value)
	}
	body, encodeErr := json.Marshal(problem{
		Type: "about:blank", Title: title(status), Status: status, Detail: e.Message, Instance: instance, Code: e.Code,
		Message: e.Message, RequestID: requestID, Errors: e.Fields, Plugin: e.Plugin, Reason: e.Reason, DecisionID: e.DecisionID,
	})
	if encodeErr != nil {
		body = []byte(`{"status":500,"code":"internal"}`)
	}
	ctx.Response.ResetBody()
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/problem+json")
	ctx.SetBody(body)
	ctx.Response.Header.Set("Cache-Control", "no-store") // whatever the handler meant for its own answer
	if status == fasthttp.StatusUnauthorized {
		ctx.Response.Header.Set("WWW-Authenticate", "Bearer")
	}
	if e.RetryAfter > 0 {
		ctx.Response.Header.Set("Retry-After", strconv.Itoa(int(math.Max(1, math.Ceil(e.RetryAfter.Seconds())))))
	}
	return status
}
