/* Writing: the fields of a head joined into one byte string; and the module. */
#include "codec.h"

PyObject *given[GIVEN];

enum { PAIRS = 256 };

/* One line to be written. */
typedef struct {
    const char *name, *value;
    Py_ssize_t name_size, value_size;
} Line;

static int take_pair(PyObject *pair, Line *line)
{
    char *name, *value;
    PyObject *first = PyTuple_GetItem(pair, 0), *second = first ? PyTuple_GetItem(pair, 1) : NULL;
    if (!second || PyBytes_AsStringAndSize(first, &name, &line->name_size) < 0 ||
        PyBytes_AsStringAndSize(second, &value, &line->value_size) < 0)
        return -1;
    line->name = name;
    line->value = value;
    return 0;
}

/* Whether a received field stays behind: 1, 0, -1 is an error. */
static int is_left_out(const Line *line, PyObject *drop, Py_ssize_t drops)
{
    Name *name = find_name(line->name, line->name_size);
    if (!name)
        return -1;
    if (name->is_hop_by_hop)
        return 1;
    return drops ? PySequence_Contains(drop, name->lower) : 0;
}

static char *put(char *to, const char *from, Py_ssize_t size)
{
    memcpy(to, from, size);
    return to + size;
}

static PyObject *assemble(PyObject *first, PyObject *middle, const Line *lines, Py_ssize_t kept, Py_ssize_t count)
{
    char *head, *framing;
    Py_ssize_t head_size, framing_size;
    if (PyBytes_AsStringAndSize(first, &head, &head_size) < 0 ||
        PyBytes_AsStringAndSize(middle, &framing, &framing_size) < 0)
        return NULL;
    Py_ssize_t size = head_size + framing_size + 2;
    for (Py_ssize_t i = 0; i < count; i++)
        size += lines[i].name_size + lines[i].value_size + 4;
    PyObject *made = PyBytes_FromStringAndSize(NULL, size);
    if (!made)
        return NULL;
    char *to = put(PyBytes_AsString(made), head, head_size);
    for (Py_ssize_t i = 0; i <= count; i++) {
        if (i == kept)
            to = put(to, framing, framing_size);
        if (i == count)
            break;
        to = put(put(to, lines[i].name, lines[i].name_size), ": ", 2);
        to = put(put(to, lines[i].value, lines[i].value_size), "\r\n", 2);
    }
    put(to, "\r\n", 2);
    return made;
}

static const char join_doc[] =
    "join(first, headers, drop, middle, extra) -> bytes | None\n\n"
    "`first` and `middle` are whole lines. Received fields come first, without those of this hop and those in\n"
    "`drop`, then `middle`, then `extra`. None: more fields than are joined here.";

static PyObject *join(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Line lines[PAIRS];
    if (count != 5 || !given[HOP_BY_HOP])
        return PyErr_Format(PyExc_TypeError, "five arguments, after setup");
    PyObject *headers = args[1], *drop = args[2], *extra = args[4];
    Py_ssize_t received = PyList_Size(headers), own = PySequence_Size(extra), drops = PyObject_Size(drop);
    if (received < 0 || own < 0 || drops < 0)
        return NULL;
    if (received + own > PAIRS)
        return Py_NewRef(Py_None);
    Py_ssize_t kept = 0;
    for (Py_ssize_t i = 0; i < received; i++) {
        Line *line = &lines[kept];
        int is_out = take_pair(PyList_GetItem(headers, i), line) < 0 ? -1 : is_left_out(line, drop, drops);
        if (is_out < 0)
            return NULL;
        kept += !is_out;
    }
    Py_ssize_t all = kept;
    for (Py_ssize_t i = 0; i < own; i++, all++) {
        PyObject *pair = PySequence_GetItem(extra, i);
        int is_bad = !pair || take_pair(pair, &lines[all]) < 0;
        Py_XDECREF(pair); /* `extra` holds it */
        if (is_bad)
            return NULL;
    }
    return assemble(args[0], args[3], lines, kept, all);
}

static const char setup_doc[] = "setup(...): the classes, framings, names and functions that Python defines.";

static PyObject *setup(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != GIVEN)
        return PyErr_Format(PyExc_TypeError, "%d arguments", GIVEN);
    for (int i = 0; i < GIVEN; i++) {
        Py_XDECREF(given[i]);
        given[i] = Py_NewRef(args[i]);
    }
    Py_RETURN_NONE;
}

#define FAST(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, name##_doc}

static PyMethodDef functions[] = {FAST(request), FAST(response), FAST(join), FAST(setup), {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_codec",
    .m_doc = "The common case of HTTP/1.1 heads in C.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__codec(void)
{
    fill_classes();
    return prepare_reading() < 0 ? NULL : PyModule_Create(&module);
}
