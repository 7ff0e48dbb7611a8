/* Writing: the fields of a head joined into one byte string; and the module. */
#include "codec.h"

PyObject *given[GIVEN];

enum { FEW = 64 };

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

typedef struct {
    const char *text;
    Py_ssize_t size;
} Piece;

static PyObject *assemble(Piece first, Piece middle, Piece content, const Line *lines, Py_ssize_t kept,
                          Py_ssize_t count)
{
    Py_ssize_t size = first.size + middle.size + 2 + content.size;
    for (Py_ssize_t i = 0; i < count; i++)
        size += lines[i].name_size + lines[i].value_size + 4;
    PyObject *made = PyBytes_FromStringAndSize(NULL, size);
    if (!made)
        return NULL;
    char *to = put(PyBytes_AsString(made), first.text, first.size);
    for (Py_ssize_t i = 0; i <= count; i++) {
        if (i == kept)
            to = put(to, middle.text, middle.size);
        if (i == count)
            break;
        to = put(put(to, lines[i].name, lines[i].name_size), ": ", 2);
        to = put(put(to, lines[i].value, lines[i].value_size), "\r\n", 2);
    }
    put(put(to, "\r\n", 2), content.text, content.size);
    return made;
}

/* Received lines that pass, then own lines: how many of both, -1 is an error. `kept` of them are received. */
static Py_ssize_t choose(PyObject *headers, PyObject *drop, PyObject *extra, Line *lines, Py_ssize_t *kept)
{
    Py_ssize_t received = PyList_Size(headers), own = PySequence_Size(extra), drops = PyObject_Size(drop);
    Py_ssize_t count = 0;
    if (drops < 0)
        return -1;
    for (Py_ssize_t i = 0; i < received; i++) {
        Line *line = &lines[count];
        int is_out = take_pair(PyList_GetItem(headers, i), line) < 0 ? -1 : is_left_out(line, drop, drops);
        if (is_out < 0)
            return -1;
        count += !is_out;
    }
    *kept = count;
    for (Py_ssize_t i = 0; i < own; i++, count++) {
        PyObject *pair = PySequence_GetItem(extra, i);
        int is_bad = !pair || take_pair(pair, &lines[count]) < 0;
        Py_XDECREF(pair); /* `extra` holds it */
        if (is_bad)
            return -1;
    }
    return count;
}

static PyObject *join_with(PyObject *const *args, Piece content)
{
    Line few[FEW], *lines = few;
    Piece first, middle;
    char *text;
    if (PyBytes_AsStringAndSize(args[0], &text, &first.size) < 0)
        return NULL;
    first.text = text;
    if (PyBytes_AsStringAndSize(args[3], &text, &middle.size) < 0)
        return NULL;
    middle.text = text;
    Py_ssize_t received = PyList_Size(args[1]), own = received < 0 ? -1 : PySequence_Size(args[4]), kept;
    if (own < 0)
        return NULL;
    if (received + own > FEW && !(lines = PyMem_Malloc((received + own) * sizeof *lines)))
        return PyErr_NoMemory();
    Py_ssize_t count = choose(args[1], args[2], args[4], lines, &kept);
    PyObject *made = count < 0 ? NULL : assemble(first, middle, content, lines, kept, count);
    if (lines != few)
        PyMem_Free(lines);
    return made;
}

static const char join_doc[] =
    "join(first, headers, drop, middle, extra, content=b'') -> bytes\n\n"
    "`first` and `middle` are whole lines. Received fields come first, without those of this hop and those in\n"
    "`drop`, then `middle`, then `extra`, an empty line and the content.";

static PyObject *join(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Piece content = {"", 0};
    if (count < 5 || count > 6 || !given[HOP_BY_HOP])
        return PyErr_Format(PyExc_TypeError, "five or six arguments, after setup");
    if (count == 5)
        return join_with(args, content);
    Py_buffer view;
    if (PyObject_GetBuffer(args[5], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    content.text = view.buf;
    content.size = view.len;
    PyObject *made = join_with(args, content);
    PyBuffer_Release(&view);
    return made;
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
    if (prepare_heads() < 0)
        return NULL;
    Py_RETURN_NONE;
}

#define FAST(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, name##_doc}

static PyMethodDef functions[] = {FAST(request), FAST(response), FAST(join), FAST(setup), FAST(compose), FAST(pack),
                                   {"trim", trim, METH_NOARGS, trim_doc}, {NULL, NULL, 0, NULL}};

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
