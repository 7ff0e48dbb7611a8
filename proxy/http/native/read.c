/* Reading: a whole head of the plainest form, or None. */
#include "codec.h"

enum { METHODS = 7 };
static const char *method_names[METHODS] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
static PyObject *methods[METHODS];
static PyObject *one, *zero, *empty_text;

/* The attributes of the two classes of heads. */
enum attribute {
    AUTHORITY, CONTENT_LENGTH, EXPECT_CONTINUE, FIELDS, FRAMING, HEADERS, IS_INTERIM, KEEP_ALIVE, METHOD, MINOR,
    PATH_TEXT, QUERY_TEXT, RAW_TARGET, REASON, REPEATED, STATUS, TARGET, UPGRADE, ATTRIBUTES
};
static const char *attribute_names[ATTRIBUTES] = {
    "authority", "content_length", "expect_continue", "fields", "framing", "headers", "is_interim", "keep_alive",
    "method", "minor", "path", "query", "raw_target", "reason", "repeated", "status", "target", "upgrade"
};
static PyObject *attributes[ATTRIBUTES];

/* How an attribute of the two classes is set: by what the class holds for it, which need not be looked for each time. */
static struct {
    PyObject *descriptor;
    descrsetfunc set;
} setters[2][ATTRIBUTES];

int prepare_heads(void)
{
    for (int kind = 0; kind < 2; kind++)
        for (int i = 0; i < ATTRIBUTES; i++) {
            PyObject *old = setters[kind][i].descriptor;
            PyObject *found = PyObject_GetAttr(given[REQUEST_CLASS + kind], attributes[i]);
            if (!found && !PyErr_ExceptionMatches(PyExc_AttributeError))
                return -1;
            PyErr_Clear(); /* an attribute of the other class */
            setters[kind][i].descriptor = found;
            setters[kind][i].set = found ? (descrsetfunc)PyType_GetSlot(Py_TYPE(found), Py_tp_descr_set) : NULL;
            Py_XDECREF(old);
        }
    return 0;
}

int prepare_reading(void)
{
    int is_bad = !(one = PyLong_FromLong(1)) || !(zero = PyLong_FromLong(0)) ||
                 !(empty_text = PyUnicode_FromString(""));
    for (int i = 0; i < METHODS; i++)
        is_bad = is_bad || !(methods[i] = PyUnicode_InternFromString(method_names[i]));
    for (int i = 0; i < ATTRIBUTES; i++)
        is_bad = is_bad || !(attributes[i] = PyUnicode_InternFromString(attribute_names[i]));
    return is_bad ? -1 : 0;
}

/* What the fields say that decides framing and the connection; values are borrowed from `fields`. */
typedef struct {
    PyObject *headers, *fields, *host, *length, *coding, *connection;
    int is_odd;
} Block;

static void note(Block *block, const char *lower, Py_ssize_t size, PyObject *value)
{
    switch (size) {
    case 4:
        if (!memcmp(lower, "host", 4))
            block->host = value;
        break;
    case 6:
        if (!memcmp(lower, "expect", 6))
            block->is_odd = 1;
        break;
    case 10:
        if (!memcmp(lower, "connection", 10))
            block->connection = value;
        break;
    case 14:
        if (!memcmp(lower, "content-length", 14))
            block->length = value;
        break;
    case 17:
        if (!memcmp(lower, "transfer-encoding", 17))
            block->coding = value;
    }
}

/* One field line at `*at`: 1 read, 0 not plain, -1 error. */
static int read_line(Block *block, const char **at, const char *end)
{
    const char *p = *at, *start = p;
    while (p < end && classes[(u8)*p] & TOKEN)
        p++;
    if (p == start || p == end || *p != ':')
        return 0;
    const char *colon = p++;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    const char *from = p;
    while (p < end && classes[(u8)*p] & VALUE)
        p++;
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n')
        return 0;
    *at = p + 2;
    while (p > from && (p[-1] == ' ' || p[-1] == '\t'))
        p--;
    Name *name = find_name(start, colon - start);
    PyObject *value = name ? PyBytes_FromStringAndSize(from, p - from) : NULL;
    PyObject *pair = value ? PyTuple_Pack(2, name->name, value) : NULL;
    if (!pair || PyDict_SetItem(block->fields, name->lower, value) < 0 ||
        PyList_Append(block->headers, pair) < 0) {
        Py_XDECREF(value);
        Py_XDECREF(pair);
        return -1;
    }
    note(block, PyBytes_AsString(name->lower), colon - start, value);
    Py_DECREF(value); /* the dictionary holds it */
    Py_DECREF(pair);
    return 1;
}

/* All lines up to the empty one, which must be the end: 1 read, 0 not plain, -1 error. */
static int read_block(Block *block, const char *p, const char *end, Py_ssize_t max_fields)
{
    memset(block, 0, sizeof *block);
    block->headers = PyList_New(0);
    block->fields = PyDict_New();
    if (!block->headers || !block->fields)
        return -1;
    Py_ssize_t count = 0;
    while (end - p >= 2 && p[0] != '\r') {
        int outcome = ++count > max_fields ? 0 : read_line(block, &p, end);
        if (outcome != 1)
            return outcome;
    }
    return end - p == 2 && p[0] == '\r' && p[1] == '\n' && PyDict_Size(block->fields) == count &&
           !block->is_odd;
}

static int is_text(PyObject *value, const char *text)
{
    Py_ssize_t size = (Py_ssize_t)strlen(text);
    return PyBytes_Size(value) == size && !memcmp(PyBytes_AsString(value), text, size);
}

static int is_chunked(PyObject *value)
{
    static const char chunked[] = "chunked";
    const char *text = PyBytes_AsString(value);
    if (PyBytes_Size(value) != 7)
        return 0;
    for (int i = 0; i < 7; i++)
        if ((text[i] >= 'A' && text[i] <= 'Z' ? text[i] | 0x20 : text[i]) != chunked[i])
            return 0;
    return 1;
}

/* Content-Length and Transfer-Encoding: 0 not plain; else framing (borrowed) and length (new) are set. */
static int judge_framing(const Block *block, PyObject *without, PyObject **framing, PyObject **length)
{
    *framing = without;
    *length = NULL;
    if (block->coding) {
        *framing = given[FRAMING_CHUNKED];
        return !block->length && is_chunked(block->coding);
    }
    if (block->length) {
        const char *text = PyBytes_AsString(block->length);
        Py_ssize_t size = PyBytes_Size(block->length);
        long long value = 0;
        if (size < 1 || size > 18)
            return 0;
        for (Py_ssize_t i = 0; i < size; i++) {
            if (text[i] < '0' || text[i] > '9')
                return 0;
            value = value * 10 + (text[i] - '0');
        }
        *framing = given[FRAMING_LENGTH];
        *length = PyLong_FromLongLong(value);
        return *length != NULL;
    }
    return 1;
}

/* Connection: 1 keep, 0 close, -1 not plain. */
static int judge_connection(const Block *block)
{
    if (!block->connection || is_text(block->connection, "keep-alive"))
        return 1;
    return is_text(block->connection, "close") ? 0 : -1;
}

static PyObject *authority_of(PyObject *host)
{
    PyObject *known = PyDict_GetItemWithError(given[AUTHORITIES], host);
    if (known) {
        Py_INCREF(known);
        return known;
    }
    return PyErr_Occurred() ? NULL : PyObject_CallFunctionObjArgs(given[PARSE_AUTHORITY], host, NULL);
}

static int set(PyObject *head, enum attribute name, PyObject *value)
{
    if (!value)
        return -1;
    int kind = (PyObject *)Py_TYPE(head) == given[RESPONSE_CLASS];
    descrsetfunc setter = setters[kind][name].set;
    return setter ? setter(setters[kind][name].descriptor, head, value)
                  : PyObject_SetAttr(head, attributes[name], value);
}

static int set_new(PyObject *head, enum attribute name, PyObject *value)
{
    int outcome = set(head, name, value);
    Py_XDECREF(value);
    return outcome;
}

/* Method, target and version; returns the position after the line, NULL when it is not plain. */
static const char *read_request_line(const char *p, const char *end, int *method, const char **target,
                                     const char **mark, const char **stop)
{
    for (*method = 0; *method < METHODS; (*method)++) {
        size_t size = strlen(method_names[*method]);
        if ((size_t)(end - p) > size && p[size] == ' ' && !memcmp(p, method_names[*method], size)) {
            p += size + 1;
            break;
        }
    }
    if (*method == METHODS || p >= end || *p != '/')
        return NULL;
    *target = p;
    while (p < end && *p == '/') {
        p++;
        if (p < end && classes[(u8)*p] & FIRST)
            while (p < end && classes[(u8)*p] & PATH)
                p++;
        else
            break;
    }
    *mark = p;
    if (p < end && *p == '?')
        while (++p < end && classes[(u8)*p] & QUERY)
            ;
    *stop = p;
    return end - p >= 11 && !memcmp(p, " HTTP/1.1\r\n", 11) ? p + 11 : NULL;
}

static PyObject *build_request(const Block *block, int method, const char *target, const char *mark,
                               const char *stop)
{
    PyObject *framing, *length;
    int keep = judge_connection(block);
    if (!block->host || keep < 0 || !judge_framing(block, given[FRAMING_NONE], &framing, &length))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    PyObject *authority = authority_of(block->host);
    if (!authority || authority == Py_None) {
        Py_XDECREF(length);
        return authority;
    }
    PyObject *head = PyObject_CallNoArgs(given[REQUEST_CLASS]);
    PyObject *raw = PyBytes_FromStringAndSize(target, stop - target);
    int is_bad = !head || !raw;
    is_bad = is_bad || set(head, METHOD, methods[method]) || set(head, RAW_TARGET, raw) ||
             set(head, TARGET, raw) || set(head, MINOR, one) || set(head, AUTHORITY, authority) ||
             set(head, HEADERS, block->headers) || set(head, FIELDS, block->fields) ||
             set(head, REPEATED, Py_None) || set(head, FRAMING, framing) ||
             set(head, CONTENT_LENGTH, length ? length : zero) ||
             set(head, KEEP_ALIVE, keep ? Py_True : Py_False) || set(head, UPGRADE, Py_None) ||
             set(head, EXPECT_CONTINUE, Py_False) ||
             set_new(head, PATH_TEXT, PyUnicode_DecodeASCII(target, mark - target, NULL));
    if (!is_bad && stop - mark > 1)
        is_bad = set_new(head, QUERY_TEXT, PyUnicode_DecodeASCII(mark + 1, stop - mark - 1, NULL));
    else if (!is_bad)
        is_bad = set(head, QUERY_TEXT, empty_text);
    Py_XDECREF(raw);
    Py_XDECREF(length);
    Py_DECREF(authority);
    if (is_bad)
        Py_CLEAR(head);
    return head;
}

static PyObject *finish(Block *block, int outcome, PyObject *head)
{
    Py_XDECREF(block->headers);
    Py_XDECREF(block->fields);
    if (outcome == 0)
        return Py_NewRef(Py_None);
    return outcome < 0 ? NULL : head;
}

const char request_doc[] = "request(raw, head_bytes, fields, target_bytes) -> RequestHead | None";

PyObject *request(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    char *raw;
    Py_ssize_t size;
    if (count != 4 || !given[HOP_BY_HOP] || PyBytes_AsStringAndSize(args[0], &raw, &size) < 0)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "four arguments, after setup");
    Py_ssize_t limit = PyLong_AsSsize_t(args[1]), fields = PyLong_AsSsize_t(args[2]),
               target_limit = PyLong_AsSsize_t(args[3]);
    int method;
    const char *target, *mark, *stop, *end = raw + size;
    const char *p = size <= limit ? read_request_line(raw, end, &method, &target, &mark, &stop) : NULL;
    if (PyErr_Occurred())
        return NULL;
    if (!p || stop - target > target_limit)
        return Py_NewRef(Py_None);
    Block block;
    int outcome = read_block(&block, p, end, fields);
    return finish(&block, outcome, outcome == 1 ? build_request(&block, method, target, mark, stop) : NULL);
}

static PyObject *build_response(const Block *block, int status, const char *reason, Py_ssize_t size)
{
    PyObject *framing, *length;
    int keep = judge_connection(block);
    if (keep < 0 || !judge_framing(block, given[FRAMING_CLOSE], &framing, &length))
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    if (framing == given[FRAMING_CLOSE])
        keep = 0;
    PyObject *head = PyObject_CallNoArgs(given[RESPONSE_CLASS]);
    int is_bad = !head || set(head, MINOR, one) || set(head, HEADERS, block->headers) ||
                 set(head, FIELDS, block->fields) || set(head, REPEATED, Py_None) ||
                 set(head, FRAMING, framing) || set(head, CONTENT_LENGTH, length ? length : zero) ||
                 set(head, KEEP_ALIVE, keep ? Py_True : Py_False) || set(head, UPGRADE, Py_None) ||
                 set(head, IS_INTERIM, Py_False) || set_new(head, STATUS, PyLong_FromLong(status)) ||
                 set_new(head, REASON, PyBytes_FromStringAndSize(reason, size));
    Py_XDECREF(length);
    if (is_bad)
        Py_CLEAR(head);
    return head;
}

const char response_doc[] = "response(raw, head_bytes, fields) -> ResponseHead | None; not for HEAD, CONNECT";

PyObject *response(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    char *raw;
    Py_ssize_t size;
    if (count != 3 || !given[HOP_BY_HOP] || PyBytes_AsStringAndSize(args[0], &raw, &size) < 0)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "three arguments, after setup");
    Py_ssize_t limit = PyLong_AsSsize_t(args[1]), fields = PyLong_AsSsize_t(args[2]);
    if (PyErr_Occurred())
        return NULL;
    if (size > limit || size < 14 || memcmp(raw, "HTTP/1.1 ", 9))
        return Py_NewRef(Py_None);
    int status = 0;
    for (int i = 9; i < 12; i++) {
        if (raw[i] < '0' || raw[i] > '9')
            return Py_NewRef(Py_None);
        status = status * 10 + (raw[i] - '0');
    }
    const char *p = raw + 12, *end = raw + size;
    if (status < 200 || status > 599 || status == 204 || status == 304)
        return Py_NewRef(Py_None);
    const char *reason = p;
    if (*p == ' ') {
        reason = ++p;
        while (p < end && classes[(u8)*p] & VALUE)
            p++;
    }
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n')
        return Py_NewRef(Py_None);
    Block block;
    int outcome = read_block(&block, p + 2, end, fields);
    return finish(&block, outcome, outcome == 1 ? build_response(&block, status, reason, p - reason) : NULL);
}
