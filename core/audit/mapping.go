package audit

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/eiderdb/eider"
)

// Evidence returns the row as the API shows a single one: with its hashes.
func (r *Row) Evidence() Operation {
	o := r.API()
	o.PrevHash, o.Hash = hex.EncodeToString(r.PrevHash), hex.EncodeToString(r.Hash)
	return o
}

// CloudEvent is a row as an event of CloudEvents 1.0, in its JSON form.
type CloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject,omitempty"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	TraceParent     string    `json:"traceparent,omitempty"`
	Data            Operation `json:"data"`
}

// CloudEvent returns the row, which is in the epoch, as an event. Source and id name
// it for good: ids of rows are given out again in another epoch.
func (r *Row) CloudEvent(epoch int64) CloudEvent {
	e := CloudEvent{
		SpecVersion: "1.0", ID: fmt.Sprintf("%d-%d", epoch, r.ID), Source: "/eider/operations", Type: "io.eiderdb.operation." + r.Operation,
		Time: r.Time, DataContentType: "application/json", Data: r.Evidence(),
	}
	switch {
	case r.ProjectID != "" && (r.ResourceType == "project" || r.ResourceID == ""):
		e.Subject = "projects/" + r.ProjectID
	case r.ProjectID != "":
		e.Subject = "projects/" + r.ProjectID + "/" + r.ResourceType + "/" + r.ResourceID
	case r.ResourceID != "":
		e.Subject = r.ResourceType + "/" + r.ResourceID
	}
	return e
}

// OCSF is a row as an event of the Open Cybersecurity Schema Framework, class API
// Activity (6003).
type OCSF struct {
	ActivityID   int            `json:"activity_id"`
	ActivityName string         `json:"activity_name"`
	CategoryUID  int            `json:"category_uid"`
	CategoryName string         `json:"category_name"`
	ClassUID     int            `json:"class_uid"`
	ClassName    string         `json:"class_name"`
	TypeUID      int            `json:"type_uid"`
	SeverityID   int            `json:"severity_id"`
	Time         int64          `json:"time"`     // milliseconds since 1970
	Duration     int64          `json:"duration"` // milliseconds
	StatusID     int            `json:"status_id"`
	Status       string         `json:"status"`
	StatusCode   string         `json:"status_code,omitempty"`
	StatusDetail string         `json:"status_detail,omitempty"`
	Count        int64          `json:"count,omitempty"`
	Metadata     ocsfMetadata   `json:"metadata"`
	Actor        ocsfActor      `json:"actor"`
	SrcEndpoint  ocsfEndpoint   `json:"src_endpoint"`
	API          ocsfAPI        `json:"api"`
	Resources    []ocsfResource `json:"resources,omitempty"`
	Unmapped     ocsfUnmapped   `json:"unmapped"`
}

type ocsfMetadata struct {
	Version     string `json:"version"`
	UID         string `json:"uid"`
	LogName     string `json:"log_name"`
	Sequence    int64  `json:"sequence"`
	Correlation string `json:"correlation_uid"`
	TraceUID    string `json:"trace_uid,omitempty"`
	Product     struct {
		Name   string `json:"name"`
		Vendor string `json:"vendor_name"`
	} `json:"product"`
}

type ocsfActor struct {
	User struct {
		UID    string `json:"uid,omitempty"`
		Name   string `json:"name,omitempty"`
		Type   string `json:"type"`
		TypeID int    `json:"type_id"`
	} `json:"user"`
}

type ocsfEndpoint struct {
	IP   string `json:"ip,omitempty"`
	Name string `json:"name,omitempty"`
}

type ocsfAPI struct {
	Operation string `json:"operation"`
	Request   struct {
		UID string `json:"uid"`
	} `json:"request"`
	Service struct {
		Name string `json:"name"`
	} `json:"service"`
}

type ocsfResource struct {
	Type  string `json:"type"`
	UID   string `json:"uid,omitempty"`
	Group struct {
		Name string `json:"name,omitempty"`
		UID  string `json:"uid,omitempty"`
	} `json:"group,omitzero"`
}

type ocsfUnmapped struct {
	Details  json.RawMessage `json:"details"`
	Decision json.RawMessage `json:"decision,omitempty"`
	PrevHash string          `json:"prev_hash"`
	Hash     string          `json:"hash"`
}

// The numbers of the class API Activity of OCSF 1.3.
const (
	ocsfVersion  = "1.3.0"
	ocsfCategory = 6
	ocsfClass    = 6003
	ocsfOther    = 99
)

// activities says what the first word of an operation's name does.
var activities = map[string]int{
	"create": 1, "prepare": 1, "upload": 1, "register": 1, "import": 1, "backup": 1, "load": 1, "add": 1,
	"get": 2, "list": 2, "query": 2, "export": 2, "download": 2, "verify": 2, "preview": 2, "profile": 2, "tail": 2, "check": 2,
	"update": 3, "alter": 3, "rotate": 3, "undelete": 3, "restore": 3, "rebuild": 3, "repair": 3,
	"drop": 4, "delete": 4, "purge": 4, "revoke": 4, "expire": 4, "archive": 4,
}

var activityNames = map[int]string{1: "Create", 2: "Read", 3: "Update", 4: "Delete", ocsfOther: "Other"}

// OCSF returns the row, which is in the epoch, as an event of API activity. What the class has no place
// for is unmapped.
func (r *Row) OCSF(epoch int64) OCSF {
	verb, _, _ := strings.Cut(r.Operation, "_")
	activity := cmp.Or(activities[verb], ocsfOther)
	shown := r.Evidence()
	o := OCSF{
		ActivityID: activity, ActivityName: activityNames[activity], CategoryUID: ocsfCategory, CategoryName: "Application Activity",
		ClassUID: ocsfClass, ClassName: "API Activity", TypeUID: ocsfClass*100 + activity, SeverityID: 1,
		Time: r.Time.UnixMilli(), Duration: r.Duration.Milliseconds(), StatusCode: r.Code, StatusDetail: r.Error, Count: shown.Count,
		Unmapped: ocsfUnmapped{shown.Details, shown.Decision, shown.PrevHash, shown.Hash},
	}
	switch r.Status {
	case eider.StatusSuccess:
		o.StatusID, o.Status = 1, "Success"
	case eider.StatusInProgress:
		o.StatusID, o.Status = ocsfOther, "In Progress"
	default:
		o.StatusID, o.Status, o.SeverityID = 2, "Failure", 2
	}
	if r.Status == eider.StatusDenied {
		o.SeverityID = 3
	}
	o.Metadata = ocsfMetadata{Version: ocsfVersion, UID: fmt.Sprintf("%d-%d", epoch, r.ID), LogName: spec.Name, Sequence: r.ID, Correlation: r.CallID, TraceUID: r.TraceID}
	o.Metadata.Product.Name, o.Metadata.Product.Vendor = "Eider", "Eider"
	o.Actor.User.UID, o.Actor.User.Name, o.Actor.User.Type, o.Actor.User.TypeID = r.ActorID, r.ActorName, string(r.ActorType), ocsfOther
	o.SrcEndpoint.IP = r.SourceIP
	if r.SourceIP == "" {
		o.SrcEndpoint.Name = "local"
	}
	o.API.Operation, o.API.Request.UID, o.API.Service.Name = r.Operation, r.RequestID, "eider"
	if r.ResourceType != "" {
		resource := ocsfResource{Type: r.ResourceType, UID: r.ResourceID}
		resource.Group.Name, resource.Group.UID = r.ProjectID, r.ProjectUID
		o.Resources = append(o.Resources, resource)
	}
	return o
}
