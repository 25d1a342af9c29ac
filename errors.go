package eider

import (
	"errors"
	"fmt"
	"time"
)

// Code is the stable word by which a program tells one refusal from another.
// docs/errors.md lists each with its meaning and whether to retry.
type Code string

// The codes that the kernel, the projects and the keys answer.
const (
	Unauthorized           Code = "unauthorized"
	Forbidden              Code = "forbidden"
	NotFound               Code = "not_found"
	MethodNotAllowed       Code = "method_not_allowed"
	NotAcceptable          Code = "not_acceptable"
	MalformedRequest       Code = "malformed_request"
	MalformedJSON          Code = "malformed_json"
	UnsupportedMediaType   Code = "unsupported_media_type"
	ValidationFailed       Code = "validation_failed"
	BodyTooLarge           Code = "body_too_large"
	BodyIncomplete         Code = "body_incomplete"
	HeadersTooLarge        Code = "headers_too_large"
	RequestTimeout         Code = "request_timeout"
	ExpectationFailed      Code = "expectation_failed"
	PreconditionFailed     Code = "precondition_failed"
	InvalidCursor          Code = "invalid_cursor"
	IdempotencyInProgress  Code = "idempotency_in_progress"
	IdempotencyConflict    Code = "idempotency_conflict"
	OperationInProgress    Code = "operation_in_progress"
	Cancelled              Code = "client_closed_request"
	RateLimited            Code = "rate_limited"
	DeniedByPolicy         Code = "denied_by_policy"
	QuotaExceeded          Code = "quota_exceeded"
	StorageFull            Code = "storage_full"
	StorageUnavailable     Code = "storage_unavailable"
	ShuttingDown           Code = "shutting_down"
	TooManyConnections     Code = "too_many_connections"
	Internal               Code = "internal"
	ProjectExists          Code = "project_exists"
	ProjectIsLocked        Code = "project_locked"
	InvalidTransition      Code = "invalid_transition"
	NotDeleted             Code = "not_deleted"
	Purged                 Code = "purged"
	KeyNotFound            Code = "api_key_not_found"
	CannotRevokeLastAdmin  Code = "cannot_revoke_last_admin_key"
	CannotRotateRevokedKey Code = "cannot_rotate_revoked_key"
)

// The codes that files and jobs answer besides.
const (
	FileNotFound          Code = "file_not_found"
	FileContentNotFound   Code = "file_content_not_found"
	FileNotUploaded       Code = "file_not_uploaded"
	FileTooLarge          Code = "file_too_large"
	UploadSessionNotFound Code = "upload_session_not_found"
	UploadSessionMismatch Code = "upload_session_mismatch"
	UploadSessionExpired  Code = "upload_session_expired"
	UploadInProgress      Code = "upload_in_progress"
	UploadOffsetConflict  Code = "upload_offset_conflict"
	SizeMismatch          Code = "size_mismatch"
	ChecksumMismatch      Code = "checksum_mismatch"
	RangeNotSatisfiable   Code = "range_not_satisfiable"
	JobNotFound           Code = "job_not_found"
	JobFinished           Code = "job_finished"
	Interrupted           Code = "interrupted"
)

// The codes that project databases answer besides.
const (
	BucketNotFound       Code = "bucket_not_found"
	BucketExists         Code = "bucket_exists"
	BucketNotEmpty       Code = "bucket_not_empty"
	BranchNotFound       Code = "branch_not_found"
	TableNotFound        Code = "table_not_found"
	TableExists          Code = "table_exists"
	ColumnNotFound       Code = "column_not_found"
	ColumnExists         Code = "column_exists"
	InvalidColumnType    Code = "invalid_column_type"
	InvalidWhereClause   Code = "invalid_where_clause"
	InvalidPrimaryKey    Code = "invalid_primary_key"
	NoPrimaryKey         Code = "no_primary_key"
	PrimaryKeyExists     Code = "primary_key_exists"
	NoChangesSpecified   Code = "no_changes_specified"
	CannotDropLastColumn Code = "cannot_drop_last_column"
	ColumnInPrimaryKey   Code = "column_in_primary_key"
	InvalidFormat        Code = "invalid_format"
	InvalidCompression   Code = "invalid_compression"
	ImportFailed         Code = "import_failed"
	DuplicateKeyValue    Code = "duplicate_key"
	QueryFailed          Code = "query_failed"
	StatementNotAllowed  Code = "statement_not_allowed"
	QueryTimeout         Code = "query_timeout"
	OutOfMemory          Code = "out_of_memory"
	TooManyQueries       Code = "too_many_queries"
	ProjectRestarted     Code = "project_restarted"
)

// The codes that plugins answer besides.
const (
	PluginNotFound Code = "plugin_not_found"
	PluginRefused  Code = "plugin_refused"
	// AuditSinkBehind: in strict mode changes wait for a sink that lags.
	AuditSinkBehind Code = "audit_sink_behind"
)

// FieldError says what is wrong with one field of a request. It never repeats
// the refused value, which may be a secret.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error is a refusal that a caller may read: a code, a sentence, and perhaps
// the fields concerned. Anything else that goes wrong is wrapped with %w on its
// way up and answered as Internal, its text kept for the log.
type Error struct {
	Code    Code
	Message string
	Fields  []FieldError

	// Headers are set on the answer, besides what every one has.
	Headers map[string]string `json:",omitempty"`
	// Status replaces the HTTP status of the code, where the contract gives one
	// code two.
	Status int `json:",omitempty"`
	// RetryAfter is how long the caller should wait, zero if unknown.
	RetryAfter time.Duration
	// Plugin, Reason and DecisionID are set where a policy refused.
	Plugin, Reason, DecisionID string
	// Logged is what the log of operations keeps in place of Message, where that
	// may repeat what somebody's data says.
	Logged string `json:",omitempty"`
	// Err is the cause, for the log only.
	Err error `json:"-"`
}

// Errorf returns a refusal with the code and a formatted message.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid returns a ValidationFailed refusal of one field.
func Invalid(field, format string, args ...any) *Error {
	message := fmt.Sprintf(format, args...)
	return &Error{
		Code:    ValidationFailed,
		Message: fmt.Sprintf("%s: %s", field, message),
		Fields:  []FieldError{{Field: field, Message: message}},
	}
}

// Error returns the code, the message and the cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Because returns a copy of the refusal that carries its cause for the log.
func (e *Error) Because(err error) *Error {
	c := *e
	c.Err = err
	return &c
}

// LoggedAs returns a copy of the refusal of which the log keeps this sentence.
func (e *Error) LoggedAs(sentence string) *Error {
	c := *e
	c.Logged = sentence
	return &c
}

// CodeOf returns the code of the refusal in err's chain, Internal if there is
// none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
