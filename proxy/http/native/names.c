/* Octet classes, and the field names seen before: most names of a connection come again and again. */
#include "codec.h"

enum { NAMES = 1024, NAME_BYTES = 64 };

u8 classes[256];
static Name names[NAMES];

void fill_classes(void)
{
    for (int c = 0; c < 256; c++) {
        int is_word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        u8 class = 0;
        if (is_word || (c && strchr("!#$%&'*+-.^_`|~", c)))
            class |= TOKEN;
        if ((c >= 0x20 && c != 0x7f) || c == '\t')
            class |= VALUE;
        if (is_word || (c && strchr("_~!$&'()*+,;=:@-", c)))
            class |= FIRST | PATH;
        if (c == '.')
            class |= PATH;
        if (c >= 0x21 && c <= 0x7e && c != '#')
            class |= QUERY;
        if (c >= 0x20 && c <= 0x7e && c != '"' && c != '\\')
            class |= QUOTED; /* as it is in a JSON string */
        classes[c] = class;
    }
}

/* Never in place: Python shares its bytes objects of one octet. */
static PyObject *lower_of(const char *text, Py_ssize_t size)
{
    char *buffer = PyMem_Malloc(size);
    if (!buffer)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < size; i++)
        buffer[i] = text[i] >= 'A' && text[i] <= 'Z' ? text[i] | 0x20 : text[i];
    PyObject *lower = PyBytes_FromStringAndSize(buffer, size);
    PyMem_Free(buffer);
    return lower;
}

Name *find_name(const char *text, Py_ssize_t size)
{
    static Name odd;
    unsigned hash = 2166136261u;
    for (Py_ssize_t i = 0; i < size; i++)
        hash = (hash ^ (u8)text[i]) * 16777619u;
    Name *entry = size <= NAME_BYTES ? &names[(hash ^ (hash >> 16)) % NAMES] : &odd;
    if (entry->name && PyBytes_Size(entry->name) == size && !memcmp(PyBytes_AsString(entry->name), text, size))
        return entry;
    PyObject *name = PyBytes_FromStringAndSize(text, size);
    PyObject *lower = name ? lower_of(text, size) : NULL;
    int is_hop = lower ? PySet_Contains(given[HOP_BY_HOP], lower) : -1;
    if (is_hop < 0) {
        Py_XDECREF(name);
        Py_XDECREF(lower);
        return NULL;
    }
    Name old = *entry;
    entry->name = name;
    entry->lower = lower;
    entry->is_hop_by_hop = is_hop;
    Py_XDECREF(old.name);
    Py_XDECREF(old.lower);
    return entry;
}
