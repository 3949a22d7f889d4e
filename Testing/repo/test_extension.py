"""The extension as Slicer will package it: nothing forgotten, names that agree, no collision, nothing heavy at file scope."""

from __future__ import annotations

import ast
import re
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from Testing.repo.refresh import derived
from Testing.repo.sources import ROOT, files, shown, tree_of

SUITE = ROOT / "RegistrationSuite"
MODULES = sorted(path.parent for path in SUITE.glob("*/CMakeLists.txt"))
PANELS = [folder for folder in MODULES if folder.name != "RegSuiteBackend"]
BACKEND = SUITE / "RegSuiteBackend"
BRIDGE = sorted((BACKEND / "regsuite_slicer").glob("*.py"))
COMMON_UI = sorted((BACKEND / "Resources" / "UI").glob("*.ui"))
SCRIPTS = [folder / f"{folder.name}.py" for folder in MODULES]
LIGHT = {"slicer", "vtk", "qt", "ctk", "numpy", "regsuite_slicer", "SampleData", "PyTorchUtils", *sys.stdlib_module_names}
HEAVY = {"torch", "safetensors", "scipy", "SimpleITK", "pydicom", "matplotlib"}
LIGHT_PARTS_OF_REGSUITE = {"regsuite", "regsuite.errors"}


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def listed(folder: Path) -> list[str]:
    """The files that a module's CMakeLists.txt packages, relative to the module."""
    names: list[str] = []
    for _, body in re.findall(r"set\(MODULE_PYTHON_(SCRIPTS|RESOURCES)\s(.*?)\)", text_of(folder / "CMakeLists.txt"), re.DOTALL):
        names += body.replace("${MODULE_NAME}", folder.name).split()
    return names


def value_of(variable: str) -> str:
    """A quoted CMake variable of the top level."""
    found = re.search(rf'^set\({variable} "([^"]*)"\)', re.sub(r"\s+#.*", "", text_of(ROOT / "CMakeLists.txt")), re.MULTILINE)
    assert found, f"CMakeLists.txt sets no {variable} to a quoted text."
    return found.group(1)


def class_names(path: Path) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in tree_of(path).body if isinstance(node, ast.ClassDef)}


def parameter_names(folder: Path) -> set[str]:
    """The members of the panel's parameter node."""
    node = class_names(folder / f"{folder.name}.py")[f"{folder.name}ParameterNode"]
    assert [ast.unparse(item) for item in node.decorator_list] == ["parameterNodeWrapper"]
    return {item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)}


def ui_widgets(path: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(path).getroot().iter("widget"))


def bound_parameters(path: Path) -> dict[str, str]:
    """Widget -> the parameter that it is bound to in a .ui file."""
    found = {}
    for widget in ui_widgets(path):
        for prop in widget.findall("property"):
            if prop.get("name") == "SlicerParameterName":
                assert prop.get("stdset") == "0", f"{shown(path)}: SlicerParameterName of {widget.get('name')} is not dynamic."
                found[widget.get("name", "")] = "".join(prop.itertext()).strip()
    return found


# ---- what is packaged

def test_there_is_something_to_look_at() -> None:
    assert {"RegSuiteBackend", "LungRegistration"} <= {folder.name for folder in MODULES}
    assert len(BRIDGE) > 8 and len(COMMON_UI) == 2


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in derived()])
def test_derived_files_are_up_to_date(path: Path) -> None:
    assert text_of(path) == derived()[path], f"{shown(path)} is out of date: run `python -m Testing.repo.refresh`."


@pytest.mark.parametrize("folder", MODULES, ids=lambda folder: folder.name)
def test_every_file_is_listed_and_every_listed_file_exists(folder: Path) -> None:
    there = {path.relative_to(folder).as_posix() for path in files() if folder in path.parents and path.name != "CMakeLists.txt"}
    names = listed(folder)
    assert sorted(names) == sorted(set(names)), "A file is listed twice."
    assert set(names) - there == set(), "Listed, but not there."
    assert there - set(names) == set(), "There, but not packaged."


def test_nothing_collides_in_the_flat_folder_of_the_application() -> None:
    installed = [(name.lower(), folder.name) for folder in MODULES for name in listed(folder)]
    assert len({name for name, _ in installed}) == len(installed)
    for folder in MODULES:
        for name in listed(folder):
            top, _, rest = name.partition("/")
            if top == "Resources":
                allowed = (folder.name, "RegSuite") if folder == BACKEND else (folder.name,)
                assert Path(rest).name.startswith(allowed), f"{folder.name}: name '{name}' after the module, it is shared by all."
            else:
                assert top.removesuffix(".py") in (folder.name, "regsuite", "regsuite_slicer"), name
                assert top not in ("Testing", "Lib"), name


def test_the_folders_are_added_and_the_macros_are_slicer_s() -> None:
    assert re.findall(r"add_subdirectory\((\w+)\)", text_of(ROOT / "CMakeLists.txt")) == ["RegistrationSuite"]
    assert sorted(re.findall(r"add_subdirectory\((\w+)\)", text_of(SUITE / "CMakeLists.txt"))) == [f.name for f in MODULES]
    for folder in MODULES:
        text = text_of(folder / "CMakeLists.txt")
        assert f"set(MODULE_NAME {folder.name})" in text
        assert text.count("slicerMacroBuildScriptedModule(") == 1
        arguments = ("NAME ${MODULE_NAME}", "SCRIPTS ${MODULE_PYTHON_SCRIPTS}", "RESOURCES ${MODULE_PYTHON_RESOURCES}")
        assert all(part in text for part in (*arguments, "WITH_GENERIC_TESTS"))
        assert "slicer_add_python_unittest(SCRIPT ${MODULE_NAME}.py)" in text.partition("if(BUILD_TESTING)")[2]


STAND_IN_FOR_SLICER = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/Use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake)
set(BUILD_TESTING ON)
"""
STAND_IN_FOR_ITS_MACROS = """
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(GIVEN "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(GIVEN_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown arguments: ${GIVEN_UNPARSED_ARGUMENTS}")
  endif()
  foreach(file IN LISTS GIVEN_SCRIPTS GIVEN_RESOURCES)
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "no file ${file}")
    endif()
    message(STATUS "packaged ${GIVEN_NAME} ${file}")
  endforeach()
endmacro()
macro(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  message(STATUS "tested ${TEST_SCRIPT}")
endmacro()
"""


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_cmake_configures_the_extension(tmp_path: Path) -> None:
    """With a stand-in for Slicer's package that takes the arguments of its macros and checks that the files exist."""
    package = tmp_path / "package"
    package.mkdir()
    for name, text in (("SlicerConfig", STAND_IN_FOR_SLICER), ("Use", STAND_IN_FOR_ITS_MACROS), ("Nothing", "")):
        (package / f"{name}.cmake").write_text(text, encoding="utf-8")
    options = [f"-DSlicer_DIR={package}", "-DCMAKE_C_COMPILER_WORKS=1", "-DCMAKE_CXX_COMPILER_WORKS=1"]
    done = subprocess.run(["cmake", "-S", str(ROOT), "-B", str(tmp_path / "out"), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line.removeprefix("-- ") for line in done.stdout.splitlines()]
    for folder in MODULES:
        packaged = [line.split()[-1] for line in said if line.startswith(f"packaged {folder.name} ")]
        assert packaged == listed(folder)
        assert f"tested {folder.name}.py" in said


# ---- names that agree

@pytest.mark.parametrize("folder", MODULES, ids=lambda folder: folder.name)
def test_module_file_and_classes_have_one_name(folder: Path) -> None:
    classes = class_names(folder / f"{folder.name}.py")
    wanted = {folder.name, f"{folder.name}Test"}
    wanted |= {f"{folder.name}{part}" for part in ("Widget", "Logic", "ParameterNode")} if folder in PANELS else set()
    assert wanted <= set(classes)
    assert len(text_of(folder / f"{folder.name}.py").splitlines()) <= 300


@pytest.mark.parametrize("folder", PANELS, ids=lambda folder: folder.name)
def test_a_panel_says_what_all_say_and_cites_its_methods(folder: Path) -> None:
    text = text_of(folder / f"{folder.name}.py")
    assert "        describe(\n" in text and "lease cite" in text


def test_what_all_panels_say() -> None:
    text = text_of(BACKEND / "regsuite_slicer" / "module.py")
    assert 'parent.dependencies = ["RegSuiteBackend"]' in text
    assert "parent.acknowledgementText" in text and "Research use only" in text
    documentation = re.search(r'^DOCUMENTATION = "(.*)"', text, re.MULTILINE)
    assert documentation and documentation.group(1) == value_of("EXTENSION_HOMEPAGE")


@pytest.mark.parametrize("folder", MODULES, ids=lambda folder: folder.name)
def test_icons_are_128_pixels_square(folder: Path) -> None:
    data = (folder / "Resources" / "Icons" / f"{folder.name}.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (128, 128)


@pytest.mark.parametrize("folder", PANELS, ids=lambda folder: folder.name)
def test_the_ui_belongs_to_the_module(folder: Path) -> None:
    path = folder / "Resources" / "UI" / f"{folder.name}.ui"
    root = ElementTree.parse(path).getroot()
    top = ui_widgets(path)[0]
    assert (root.findtext("class"), top.get("class"), top.get("name")) == (folder.name, "qMRMLWidget", folder.name)
    names = [widget.get("name") for ui in (path, *COMMON_UI) for widget in ui_widgets(ui)]
    assert len(names) == len(set(names)), "The names of the module's widgets and of the common ones collide."
    assert {"inputsCollapsibleButton", "outputsCollapsibleButton"} <= set(names)


@pytest.mark.parametrize("folder", PANELS, ids=lambda folder: folder.name)
def test_every_bound_widget_has_its_parameter(folder: Path) -> None:
    parameters = parameter_names(folder)
    bound: list[str] = []
    without_methods = "methods={}" in text_of(folder / f"{folder.name}.py")  # PanelWidget then leaves the settings section out
    for path in (folder / "Resources" / "UI" / f"{folder.name}.ui", *COMMON_UI):
        for widget, name in bound_parameters(path).items():
            if without_methods and path in COMMON_UI and name in ("method", "preset"):
                continue
            assert name.partition(".")[0] in parameters, f"{shown(path)}: {widget} is bound to '{name}', which does not exist."
            bound.append(name)
    assert len(bound) == len(set(bound)), "Two widgets are bound to one parameter."
    shown_in = {widget.get("name") for widget in ui_widgets(folder / "Resources" / "UI" / f"{folder.name}.ui")}
    inputs = re.findall(r'Input\("(\w+)", "\w+", "(\w+)"(?:.*?of="(\w+)")?', text_of(folder / f"{folder.name}.py"))
    for name, kind, of in inputs:
        listed = {"volumes": f"{name}Table", "labels_each": f"{of}Table"}.get(kind) in shown_in  # a list has no selector to bind
        assert name in bound or listed, f"The input '{name}' has no widget."


@pytest.mark.parametrize("path", [f / "Resources" / "UI" / f"{f.name}.ui" for f in PANELS] + COMMON_UI, ids=lambda path: path.name)
def test_node_selectors_get_the_scene_and_explain_themselves(path: Path) -> None:
    root = ElementTree.parse(path).getroot()
    scene = {c.findtext("receiver") for c in root.iter("connection") if c.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"}
    for widget in ui_widgets(path):
        if "qMRML" in widget.get("class", "") and widget.get("class") != "qMRMLWidget":
            assert widget.get("name") in scene, f"{shown(path)}: {widget.get('name')} never gets the scene."
            properties = {prop.get("name"): "".join(prop.itertext()).strip() for prop in widget.findall("property")}
            assert len(properties.get("toolTip", "")) > 20, f"{shown(path)}: {widget.get('name')} has no tool tip."


# ---- nothing heavy, nothing that runs, at file scope

def is_definition(node: ast.stmt) -> bool:
    """Imports, classes, functions, constants and docstrings; no calls for their effect, no control flow."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.AnnAssign))


def imported(node: ast.AST) -> list[str]:
    """Dotted names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


@pytest.mark.parametrize("path", SCRIPTS + BRIDGE, ids=shown)
def test_only_definitions_at_file_scope(path: Path) -> None:
    for node in tree_of(path).body:
        assert is_definition(node), f"{shown(path)}:{node.lineno} runs when the file is imported: {ast.unparse(node)[:80]}"


@pytest.mark.parametrize("path", SCRIPTS + BRIDGE, ids=shown)
def test_the_application_never_imports_torch(path: Path) -> None:
    """Not even inside functions: torch lives in the worker."""
    for node in ast.walk(tree_of(path)):
        for name in imported(node):
            top = name.split(".")[0]
            where = f"{shown(path)}:{getattr(node, 'lineno', 0)}"
            assert top not in HEAVY, f"{where} imports {name}."
            if top == "regsuite":
                assert name in LIGHT_PARTS_OF_REGSUITE, f"{where} imports {name}, which may bring torch; regsuite.errors does not."
            else:
                assert top in LIGHT, f"{where} imports {name}."


def test_the_rules_are_felt() -> None:
    bad = ["print(1)", "if True:\n    x = 1", "for i in (): pass", "1 + 1"]
    assert not any(is_definition(ast.parse(text).body[0]) for text in bad)
    assert all(is_definition(ast.parse(text).body[0]) for text in ("import os", "X = 1", "def f(): ...", "'doc'", "class C: ..."))
    assert imported(ast.parse("from torch.nn import Linear").body[0]) == ["torch.nn"]


# ---- the extension's own description

def test_metadata() -> None:
    assert re.search(r"^project\((\w+)\)", text_of(ROOT / "CMakeLists.txt"), re.MULTILINE).group(1) == "RegistrationSuite"  # type: ignore[union-attr]
    assert value_of("EXTENSION_CATEGORY") == "Registration"
    assert value_of("EXTENSION_HOMEPAGE").startswith("https://")
    assert len(value_of("EXTENSION_DESCRIPTION")) > 40 and value_of("EXTENSION_CONTRIBUTORS")
    assert value_of("EXTENSION_DEPENDS") == "PyTorch"
    text = text_of(ROOT / "CMakeLists.txt")
    wanted = ("find_package(Slicer REQUIRED)", "include(${Slicer_USE_FILE})", "include(${Slicer_EXTENSION_GENERATE_CONFIG})",
              "include(${Slicer_EXTENSION_CPACK})")  # fmt: skip
    assert [text.index(part) for part in wanted] == sorted(text.index(part) for part in wanted)
    assert (ROOT / "LICENSE").is_file() and "LICENSE" in text_of(ROOT / "README.md")


def test_pictures_of_the_extensions_manager_are_in_the_repository() -> None:
    urls = [value_of("EXTENSION_ICONURL"), *value_of("EXTENSION_SCREENSHOTURLS").split()]
    assert len(urls) >= 2
    for url in urls:
        path = ROOT / url.partition("/main/")[2]
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n", shown(path)
    assert struct.unpack(">II", (ROOT / urls[0].partition("/main/")[2]).read_bytes()[16:24]) == (128, 128)


def test_pictures_in_the_documentation_exist() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "Documentation").glob("*.md"))):
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text_of(page)):
            assert target.startswith("https://") or (page.parent / target).is_file(), f"{shown(page)}: no picture '{target}'."


@pytest.mark.parametrize("path", [p for p in files() if p.name == "CMakeLists.txt" or p.suffix == ".ui"], ids=shown)
def test_line_ends_are_unix(path: Path) -> None:
    assert b"\r" not in path.read_bytes()
